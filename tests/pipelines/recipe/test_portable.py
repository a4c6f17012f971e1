"""Params that go elsewhere name no place and no server of the machine that packed them."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import UserError
from pipelines.recipe.portable import NOBODY, portable


def params(tmp_path: Path, **ingest: Any) -> dict[str, Any]:
    weights = tmp_path / "medsam"
    weights.mkdir()
    return {
        "ingest": {
            "keys": "/home/me/keys",
            "sources": {
                "here": {"root": "data/raw/mine", "licence": "CC0-1.0"},
                "far": {"root": "/mnt/clinic/images"},
                "zipped": {"root": "../clinic.tar.gz"},
            },
        },
        "regions": {"review": "/home/me/labels.jsonl", "min_score": 0.05},
        "captions": {
            "prompts": "/home/me/words",
            "options": {"vllm": {"base_urls": ["http://10.0.0.7:8001/v1"], "model": "toy", "revision": None}},
        },
        "proposals": {
            "proposers": ["saliency"],
            "segmenter": "medsam",
            "options": {"medsam": {"model": str(weights)}, "grounding_dino": {"model": "IDEA/base", "revision": "a"}},
        },
        "tracking": {"uri": "http://mlflow.house:5000", "artifacts": "/srv/artifacts", "model": "medregion"},
        "audit": {"answers": "/home/me/audit.jsonl", "seed": 0},
        "promote": {"signing_key": "/home/me/private.pem"},
        "evaluate": {
            "tasks": {"vqa": {"hidden": 8, "served": {"base_urls": ["http://10.0.0.7:8001/v1"]}}, "retrieval": {}}
        },
    }


def test_places_become_those_of_a_checkout_and_servers_nobody(tmp_path: Path) -> None:
    found = portable(params(tmp_path))
    roots = {name: source["root"] for name, source in found["ingest"]["sources"].items()}
    assert roots == {"here": "data/raw/mine", "far": "data/raw/far", "zipped": "data/raw/zipped.tar.gz"}
    assert (found["ingest"]["keys"], found["regions"]["review"]) == ("keys", "data/review.jsonl")
    assert found["audit"] == {"answers": "data/audit.jsonl", "seed": 0}
    assert found["captions"]["prompts"] == "prompts/words"
    assert found["captions"]["options"]["vllm"]["base_urls"] == [NOBODY]
    assert found["proposals"]["options"]["medsam"]["model"] == "weights/medsam"
    assert (found["tracking"]["uri"], found["tracking"]["model"]) == ("sqlite:///data/mlflow/mlflow.db", "medregion")
    assert found["evaluate"] == {"tasks": {"vqa": {"hidden": 8, "served": None}, "retrieval": {}}}
    said = repr(found)
    assert not [word for word in ("/home", "/mnt", "/srv", "10.0.0.7", "mlflow.house", str(tmp_path)) if word in said]
    assert (found["regions"]["min_score"], found["captions"]["options"]["vllm"]["model"]) == (0.05, "toy")


def test_those_of_a_recipe_come_back_as_they_are(tmp_path: Path) -> None:
    found = portable(params(tmp_path))
    assert portable(found) == found


@pytest.mark.parametrize("place", ["/home/me/table.csv", "../table.csv", "~/table.csv", "C:\\table.csv"])
def test_another_place_of_this_machine_is_one_line(tmp_path: Path, place: str) -> None:
    given = params(tmp_path)
    given["ingest"]["sources"]["here"]["options"] = {"table": place}
    with pytest.raises(UserError, match=r"ingest\.sources\.here\.options\.table is a place of this machine"):
        portable(given)
