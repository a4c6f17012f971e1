"""Checks an export by Label Studio's own code: python check_label_studio.py FOLDER

Runs in the environment of the dependency group `review-tools`. Prints as JSON the faults that label-studio-sdk finds in
label_studio.xml, and in the tasks and predictions of label_studio.json.
"""

import json
import sys
from pathlib import Path

from label_studio_sdk.label_interface import LabelInterface

folder = Path(sys.argv[1])
interface = LabelInterface((folder / "label_studio.xml").read_text(encoding="utf-8"))
interface.validate()
faults = []
for task in json.loads((folder / "label_studio.json").read_text(encoding="utf-8")):
    predictions = task.pop("predictions")  # its validate_task calls validate_prediction without an argument
    if not interface.validate_task(task):
        faults.append(f"task {task['data']['image_id']}")
    for prediction in predictions:
        faults += interface.validate_prediction(prediction, return_errors=True)
json.dump(faults, sys.stdout)
