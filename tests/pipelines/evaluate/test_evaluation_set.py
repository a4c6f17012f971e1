"""What tasks are told of an image and of its annotated regions."""

from pathlib import Path

from models.data.shards import ShardSet
from pipelines.evaluate.evaluation_set import EvaluationSet
from tests.pipelines.evaluate.small_world import Matcher, image, region, tokenizer_of, write_shards


def test_images_and_regions_say_what_is_known_of_them(tmp_path: Path) -> None:
    spot = region(
        1, adjective="Well-Defined", term="Cyst (2.5 cm)", position="Left  Upper", phrase="A cyst, upper left."
    )
    images = [
        image(0, regions=[spot, region(2)], attributes={"age": "61"}, look_alikes=[(0, 0, 4, 4), (8, 8, 16, 16)]),
        image(1, regions=[region(3, role="input")]),
    ]
    tokenizer = tokenizer_of(["spot"])
    samples = ShardSet(*write_shards(tmp_path, images), "test").samples
    first, second = EvaluationSet(Matcher(tokenizer), tokenizer, samples, 2).images
    assert (first.attributes, first.look_alikes, first.annotated) == ({"age": "61"}, 2, 2)
    assert (second.attributes, second.look_alikes, second.annotated) == ({}, 0, 0)
    cyst, other = first.regions
    assert (cyst.adjective, cyst.term, cyst.position) == ("well defined", "cyst 2.5 cm", "left upper")
    assert cyst.caption == "well defined cyst 2.5 cm left upper"
    # As the source wrote it: each method reads texts in its own way.
    assert cyst.phrase == "A cyst, upper left."
    assert other.phrase is None
