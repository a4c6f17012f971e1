"""Tokens of images, beside what transformers computes and what was worked out by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from pipelines.captions.captioners.vllm.image_tokens import cell_tokens, image_processor, tile_count
from pipelines.errors import UserError

SIDES = st.integers(1, 3000)


@given(SIDES, SIDES, st.sampled_from([(28, 3136, 12845056), (32, 65536, 16777216), (28, 56 * 56, 448 * 448)]))
def test_cells_are_those_of_transformers(width: int, height: int, limits: tuple[int, int, int]) -> None:
    side, least, most = limits
    if max(width, height) > 200 * min(width, height):  # the server refuses it
        return
    high, wide = smart_resize(height, width, factor=side, min_pixels=least, max_pixels=most)
    assert cell_tokens(width, height, side, least, most) == (high // side) * (wide // side)


@given(SIDES, SIDES, st.sampled_from([448, 56]), st.sampled_from([(1, 12), (1, 4), (2, 6)]))
def test_tiles_are_those_of_transformers(width: int, height: int, side: int, grids: tuple[int, int]) -> None:
    across, down = get_optimal_tiled_canvas((height, width), (side, side), *grids)
    assert tile_count(width, height, side, *grids) == (across * down + 1 if across * down > 1 else 1)


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", (32 * 32, 24 * 32, 16 * 16)),
        ("Qwen2-VL-2B", (32 * 32, 24 * 32, 16 * 16)),
        ("Qwen/Qwen3-VL-8B-Instruct", (28 * 28, 21 * 28, 14 * 14)),
        ("google/gemma-3-4b-it", (256, 256, 256)),
        # 896 x 896: 2 x 2 and 3 x 3 tiles are squares too, and nine would cover more than twice its pixels.
        ("OpenGVLab/InternVL3-8B-hf", (5 * 256, 13 * 256, 256)),
    ],
)
def test_models_are_known_by_the_name_of_their_family(model: str, tokens: tuple[int, int, int]) -> None:
    processor = image_processor(model, None)
    assert processor is not None
    assert tuple(processor.tokens(*size) for size in ((896, 896), (896, 672), (448, 448))) == tokens
    assert processor.basis.startswith("arithmetic: ")


def write(folder: Path, file: str, **settings: Any) -> None:
    (folder / file).write_text(json.dumps(settings))


def test_settings_of_the_folder_come_before_the_published_ones(tmp_path: Path) -> None:
    assert image_processor("toy", None) is None
    assert image_processor("toy", tmp_path) is None
    qwen = {"image_processor_type": "Qwen2VLImageProcessorFast", "patch_size": 14, "merge_size": 2}
    write(tmp_path, "preprocessor_config.json", **qwen, min_pixels=56 * 56, max_pixels=448 * 448)
    processor = image_processor("qwen3-vl", tmp_path)
    assert processor is not None
    assert processor.tokens(896, 896) == 16 * 16
    assert "28 x 28" in processor.basis
    assert str(tmp_path) in processor.basis
    # As transformers writes them now: areas, and all in one file.
    (tmp_path / "preprocessor_config.json").unlink()
    sizes = {"shortest_edge": 64 * 64, "longest_edge": 512 * 512}
    write(tmp_path, "processor_config.json", image_processor=qwen | {"patch_size": 16, "size": sizes})
    processor = image_processor("toy", tmp_path)
    assert processor is not None
    assert [processor.tokens(*size) for size in ((448, 224), (224, 224), (1024, 1024), (8, 8))] == [98, 49, 256, 4]


def test_processors_of_other_families(tmp_path: Path) -> None:
    write(tmp_path, "processor_config.json", image_seq_length=4)
    write(tmp_path, "preprocessor_config.json", image_processor_type="Gemma3ImageProcessor")
    assert image_processor("toy", tmp_path).tokens(448, 224) == 4
    tiles = {"size": {"height": 56, "width": 56}, "max_patches": 12}
    write(tmp_path, "preprocessor_config.json", image_processor_type="GotOcr2ImageProcessor", **tiles)
    # 4 x 2 tiles, the most of that shape that 12 allow, and one of all; 3 x 3 and one.
    assert [image_processor("toy", tmp_path).tokens(*size) for size in ((448, 224), (224, 224))] == [36, 40]
    write(tmp_path, "preprocessor_config.json", image_processor_type="SiglipImageProcessor")
    assert image_processor("Qwen2.5-VL", tmp_path) is None


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"image_processor_type": "Qwen2VLImageProcessor"}', '{"size": 3}'])
def test_settings_that_cannot_be_used_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(text)
    if text == '{"size": 3}':
        assert image_processor("toy", tmp_path) is None
        return
    with pytest.raises(
        UserError, match=r"preprocessor_config\.json cannot be used .*: fetch the model again"
    ) as caught:
        image_processor("toy", tmp_path)
    assert "\n" not in str(caught.value)
