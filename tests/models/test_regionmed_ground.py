"""Maps of RegionMed-CLIP: its ROI processor asked about windows all over the image."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from models import checkpoint
from models.capabilities import GroundsPhrases
from models.data.batches import Images, Tokenise, Tokens, stack_pixels
from models.data.shards import ShardSet
from models.encoders import unit_length
from models.grad_cam import grad_cam
from models.inference import ground
from models.preparation import InputFormat
from models.regionmed_clip.model import RegionMedClip
from models.regionmed_clip.windows import windows
from tests.models.small import make_model

COLOURS = ("red", "green", "blue")


def images_of(pixels: Tensor) -> Images:
    return Images(pixels, torch.zeros(0, 3, 1, 1), torch.zeros(0, dtype=torch.long))


def random_pixels(count: int, side: int = 16) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def test_windows_lie_around_the_cells_and_within_the_image() -> None:
    pixels = random_pixels(2, 8)
    found = windows(pixels, 0.5, 4, None)
    assert found.shape == (2, 16, 3, 4, 4)
    # Cells have their centres at 1, 3, 5 and 7: windows of 4 pixels begin at -1, 1, 3 and 5, of which -1 and 5 leave.
    begins = [0, 1, 3, 4]
    for number, (y, x) in enumerate((y, x) for y in begins for x in begins):
        assert torch.equal(found[:, number], pixels[..., y : y + 4, x : x + 4].float())
    assert torch.equal(windows(pixels, 1.0, 1, None)[:, 0], pixels.float())


def test_windows_are_resized_as_crops_are() -> None:
    # Far from 0 and 255, where Pillow cuts off after each of its two passes.
    pixels = random_pixels(1, 8) // 4 + 96
    found = windows(pixels, 0.5, 2, 6)[0, 3].permute(1, 2, 0)
    by_pillow = Image.fromarray(pixels[0, :, 4:, 4:].permute(1, 2, 0).numpy()).resize((6, 6), Image.Resampling.BICUBIC)
    assert np.abs(found.numpy() - np.asarray(by_pillow, dtype=float)).max() <= 1.0


def test_a_map_is_the_cosine_of_fused_windows_and_the_phrase(tokenizer) -> None:
    model = make_model(tokenizer, windows=(0.5, 0.25), window_grid=3).double().eval()
    pixels, tokens = random_pixels(2), Tokenise(tokenizer, 32)(["round red", "oval blue"])
    expected = torch.zeros(2, 3, 3, dtype=torch.float64)
    with torch.no_grad():
        found, texts = model.ground(images_of(pixels), tokens), model.embed_text(tokens)
        for size, begins in ((8, (0, 4, 8)), (4, (1, 6, 11))):
            for row, y in enumerate(begins):
                for column, x in enumerate(begins):
                    crops = pixels[..., y : y + size, x : x + size]
                    regions = model.embed_regions(Images(pixels, crops, torch.arange(2)))
                    expected[:, row, column] += (regions * texts).sum(dim=-1) / 2
    torch.testing.assert_close(found, expected)
    assert float(found.std()) > 1e-3


def test_windows_lie_in_what_the_encoder_sees(tokenizer) -> None:
    encoder = dataclasses.asdict(make_model(tokenizer).config.image_encoder) | {"crop": 16}
    model = make_model(tokenizer, image_encoder=encoder).eval()
    pixels, tokens = random_pixels(1, 24), Tokenise(tokenizer, 32)(["round red"])
    with torch.no_grad():
        found = model.ground(images_of(pixels), tokens)
        torch.testing.assert_close(found, model.ground(images_of(pixels[..., 4:20, 4:20]), tokens))


def test_the_windows_of_an_image_are_encoded_once(tokenizer) -> None:
    model = make_model(tokenizer, window_grid=2).eval()
    pixels = random_pixels(2)[[0, 0, 0, 1]]
    tokens = Tokenise(tokenizer, 32)(["round red", "oval blue", "flat green", "round red"])
    encoded = []
    handle = model.image_encoder.register_forward_hook(lambda module, inputs, output: encoded.append(len(inputs[0])))
    with torch.no_grad():
        found = model.ground(images_of(pixels), tokens)
        # Two images, then four windows of each.
        assert encoded == [2, 8]
        for row in range(4):
            one = Tokens(tokens.ids[row : row + 1], tokens.mask[row : row + 1], tokens.words[row : row + 1])
            torch.testing.assert_close(found[row : row + 1], model.ground(images_of(pixels[row : row + 1]), one))
    handle.remove()


def test_many_windows_are_encoded_in_parts(tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(tokenizer, window_grid=4).eval()
    pixels, tokens = random_pixels(3), Tokenise(tokenizer, 32)(["round red"] * 3)
    with torch.no_grad():
        whole = model.ground(images_of(pixels), tokens)
        monkeypatch.setattr("models.regionmed_clip.model._WINDOWS_AT_A_TIME", 16)
        torch.testing.assert_close(model.ground(images_of(pixels), tokens), whole)


def test_a_loaded_model_resizes_windows_to_the_crops_that_it_was_trained_on(tokenizer, tmp_path: Path) -> None:
    model = make_model(tokenizer).eval()
    wanted = InputFormat(image_size=16, crop_size=8, crop_margin=0.1, quality=90)
    checkpoint.save(tmp_path, "regionmed_clip", model, model.state_dict(), tokenizer, {}, wanted)
    loaded, _ = checkpoint.load(tmp_path, RegionMedClip)
    sides = []
    loaded.image_encoder.register_forward_hook(lambda module, inputs, output: sides.append(inputs[0].shape[-1]))
    with torch.no_grad():
        loaded.ground(images_of(random_pixels(1)), Tokenise(tokenizer, 32)(["round red"]))
    assert sides == [16, 8]


def test_map_grad_cam_leaves_the_map_to_grad_cam(shards: Path, tokenizer) -> None:
    model = make_model(tokenizer, map="grad_cam", embedding="global").eval()
    assert not model.offers(GroundsPhrases)
    assert make_model(tokenizer).offers(GroundsPhrases)
    sample = next(ShardSet(shards / "images", shards / "captions", "train").samples())
    ((_, found),) = ground(model, tokenizer, [(sample, "round red")], 4)
    pixels = stack_pixels([sample.image])
    expected = grad_cam(model, images_of(pixels), Tokenise(tokenizer, 32)(["round red"]))
    np.testing.assert_allclose(found, expected[0].numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"map": "gradcam"}, "map 'gradcam' is not one of: regions, patches, grad_cam"),
        ({"windows": ()}, "windows is"),
        ({"windows": (0.0,)}, "windows is"),
        ({"windows": (0.25, 1.5)}, "windows is"),
        ({"window_grid": 0}, "window_grid is 0"),
    ],
)
def test_settings_that_make_no_map_are_refused(tokenizer, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_model(tokenizer, **changes)


class ColourEncoder(nn.Module):
    """The mean colour of what it is shown, in the first three features; nothing at all where it is blind."""

    def __init__(self, width: int, blind: bool) -> None:
        super().__init__()
        self.width, self.blind = width, blind

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        colours = pixels.float().flatten(2).mean(dim=2) / 255
        whole = torch.nn.functional.pad(colours * (not self.blind), (0, self.width - 3))
        return whole, whole.unsqueeze(1)

    def visible_crop(self, side: int) -> slice:
        return slice(0, side)


class Planted(RegionMedClip):
    """Knows the colour that a phrase names; its ROI processor passes the crop on."""

    def embed_text(self, tokens: Tokens) -> Tensor:
        # What the ROI processor's norms make of a pure colour.
        width = self.region_projection.in_features
        return unit_length(
            self.region_projection(self.roi_processor.norm_output(torch.eye(3, width)[tokens.ids[:, 0]]))
        )


def planted(tokenizer, *, blind: bool) -> Planted:
    model = make_model(tokenizer, Planted, heads=2, window_grid=8)
    width = model.region_projection.in_features
    model.image_encoder = ColourEncoder(width, blind)
    processor = model.roi_processor
    for layer in (processor.attention.out_proj, processor.feed_forward[-1]):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    with torch.no_grad():
        model.region_projection.weight.copy_(torch.eye(*model.region_projection.weight.shape))
    return model.eval()


def colour_tokens(colours: list[str]) -> Tokens:
    ids = torch.tensor([[COLOURS.index(colour)] for colour in colours])
    return Tokens(ids, torch.ones_like(ids), torch.zeros_like(ids))


def test_a_planted_model_finds_what_a_blind_one_cannot(tokenizer) -> None:
    pixels = torch.full((1, 3, 64, 64), 128, dtype=torch.uint8)
    boxes = {"red": (8, 8), "green": (40, 16), "blue": (16, 40)}
    for channel, colour in enumerate(COLOURS):
        y, x = boxes[colour]
        pixels[0, :, y : y + 16, x : x + 16] = 0
        pixels[0, channel, y : y + 16, x : x + 16] = 255
    asked = images_of(pixels.expand(3, -1, -1, -1))
    with torch.no_grad():
        seen = planted(tokenizer, blind=False).ground(asked, colour_tokens(list(COLOURS)))
        guessed = planted(tokenizer, blind=True).ground(asked, colour_tokens(list(COLOURS)))
    for row, colour in enumerate(COLOURS):
        highest = (seen[row] >= seen[row].max() - 1e-6).nonzero() * 8 + 4
        y, x = boxes[colour]
        assert all(y <= place_y < y + 16 and x <= place_x < x + 16 for place_y, place_x in highest.tolist())
    assert float(guessed.amax(dim=(1, 2)).sub(guessed.amin(dim=(1, 2))).max()) < 1e-6
