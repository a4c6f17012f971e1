"""An export through Datumaro's reader and writer of COCO: python through_datumaro.py FOLDER OUT DECISION

Runs in the environment of the dependency group `review-tools`. FOLDER is laid out as Datumaro wants it,
annotations/instances_default.json and images/. Every annotation gets the attribute `decision`; without one, attributes
are not written at all.
"""

import sys

from datumaro.components.dataset import Dataset

folder, out, decision = sys.argv[1:]
dataset = Dataset.import_from(folder, "coco_instances")
for item in dataset:
    for annotation in item.annotations:
        annotation.attributes["decision"] = decision
dataset.export(out, "coco_instances", save_media=False, allow_attributes=bool(decision))
