"""What tasks are told of an image and of its annotated regions."""

from collections.abc import Iterator
from pathlib import Path

from models.data.shards import Sample, ShardSet
from pipelines.evaluate.evaluation_set import EvaluationSet
from tests.pipelines.evaluate.small_world import Grounder, Matcher, image, region, tokenizer_of, write_shards


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


def test_what_is_known_of_images_is_read_without_pixels_and_equal_words_are_held_once(tmp_path: Path) -> None:
    shards = ShardSet(*write_shards(tmp_path, [image(0, regions=[region(1)]), image(1, regions=[region(1)])]), "test")
    asked = []

    def samples(*, with_image: bool = True) -> Iterator[Sample]:
        asked.append(with_image)
        return shards.samples(with_image=with_image)

    tokenizer = tokenizer_of(["spot"])
    first, second = EvaluationSet(Matcher(tokenizer), tokenizer, samples, 2).images
    assert asked == [False]
    (one,), (other,) = first.regions, second.regions
    assert one.caption is other.caption
    assert all(text is same for text, same in zip(one.negatives, other.negatives, strict=True))
    assert first.source is second.source


def test_the_split_is_read_up_to_the_last_image_that_is_asked_about(tmp_path: Path) -> None:
    shards = ShardSet(*write_shards(tmp_path, [image(number) for number in range(6)]), "test")
    read = []

    def samples(*, with_image: bool = True) -> Iterator[Sample]:
        for sample in shards.samples(with_image=with_image):
            read.append(sample.key)
            yield sample

    tokenizer = tokenizer_of(["spot"])
    test = EvaluationSet(Grounder(tokenizer), tokenizer, samples, 2)
    keys = [f"{number:016x}" for number in range(6)]
    assert [sample.key for sample, _ in test.ground([(1, "spot"), (3, "spot")])] == [keys[1], keys[3]]
    assert read == keys[:4]
    assert {index: sample.key for index, sample in test.samples([2, 0]).items()} == {0: keys[0], 2: keys[2]}
    assert read == keys[:4] + keys[:3]
