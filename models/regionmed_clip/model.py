"""RegionMed-CLIP (paper 001, eqs. 1-8)."""

import dataclasses
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.capabilities import GroundsPhrases
from models.data.augmentation import Augmentation
from models.data.batches import Batch, Collate, Images, Tokenise, Tokens
from models.data.negatives import NEGATIVES
from models.data.shards import Sample
from models.data.texts import described_regions
from models.dual_encoder import DualEncoder
from models.encoders import unit_length
from models.losses import hard_negatives, info_nce, negative_choice
from models.regionmed_clip.config import RegionMedClipConfig
from models.regionmed_clip.roi_processor import RoiProcessor
from models.regionmed_clip.windows import windows
from models.text import normalise
from models.token_layout import as_grid

# Windows that are encoded at once, about: all of a batch of large images would fill any memory.
_WINDOWS_AT_A_TIME = 256


class RegionMedClip(DualEncoder):
    """Dual encoder with an ROI processor.

    Args:
        config: Settings.
        vocabulary_size: Entries of the tokenizer.
    """

    Config = RegionMedClipConfig
    losses = ("report", "summary", "region", "negatives")

    def __init__(self, config: RegionMedClipConfig, vocabulary_size: int) -> None:
        super().__init__(config, vocabulary_size)
        if self.image_encoder.has_batch_norm:
            raise ValueError(
                "image_encoder has BatchNorm, whose statistics of images and of crops differ: "
                "set frozen_batch_norm, or choose an encoder without it"
            )
        self.max_regions = config.max_regions
        self.roi_processor = RoiProcessor(self.image_encoder.width, config.heads)
        self.region_projection = nn.Linear(self.image_encoder.width, config.embedding_size, bias=False)

    @classmethod
    def complete_config(cls, config: RegionMedClipConfig, samples: Iterable[Sample]) -> RegionMedClipConfig:
        """The terms of the training split's regions, where altered captions take them and the settings name none.

        Raises:
            ValueError: There are too few, or regions lack the altered captions that their captioner should write.
        """
        wanted, lacking, count = config.negatives.adjective, 0, 0
        found: set[str] = set()
        for sample in samples:
            for region in (sample.captions.regions[index] for index in described_regions(sample)):
                count += 1
                lacking += len(region.negatives or ()) < wanted
                found.add(normalise(region.triple[1]))
        if lacking:
            raise ValueError(
                f"negatives.adjective {wanted}: {lacking} of {count} described training regions have fewer altered "
                "captions; set it to 0 and take position and term, or caption them anew"
            )
        if not config.negatives.term or config.terms:
            return config
        terms = sorted(found)
        if not terms:
            raise ValueError("negatives.term takes the terms of training regions, and none has a caption: set it to 0")
        return dataclasses.replace(config, terms=tuple(terms))

    def collate(self, tokenise: Tokenise, augmentation: Augmentation | None, seed: int) -> Collate:
        config = self.config
        return Collate(tokenise, self.max_regions, seed, config.negatives, config.terms, sentences=config.sentences)

    def untrained(self, losses: set[str]) -> str | None:
        config = self.config
        users = [f"map: {config.map}"] if config.map == "regions" else []
        users += [f"embedding: {config.embedding}"] if config.embedding != "global" else []
        if not users or losses & {"region", "negatives"}:
            return None
        return f"the ROI processor that {' and '.join(users)} use"

    def offers(self, capability: type) -> bool:
        return super().offers(capability) and (capability is not GroundsPhrases or self.config.map != "grad_cam")

    def embed_images(self, images: Images) -> Tensor:
        """See `RegionMedClipConfig.embedding`."""
        whole, patches = self.image_encoder(images.pixels)
        global_ = unit_length(self.image_projection(whole))
        if self.config.embedding == "global":
            return global_
        regions = self._mean_region(images, whole, patches)
        return regions if self.config.embedding == "regions" else unit_length(global_ + regions)

    def embed_regions(self, images: Images) -> Tensor:
        """Crops in the context of their images."""
        return self._fuse(images, self.image_encoder(images.pixels)[1])

    def ground(self, images: Images, tokens: Tokens) -> Tensor:
        """Cosine of the phrase and the fused feature F of a window around each place: (batch, grid, grid).

        With `map: patches` that of the phrase and each patch, as sentences teach it.
        """
        if self.config.map == "patches":
            return super().ground(images, tokens)
        # Phrases of one image stand one after another: its windows are encoded once.
        pixels, image = torch.unique_consecutive(images.pixels, dim=0, return_inverse=True)
        some = max(1, _WINDOWS_AT_A_TIME // self.config.window_grid**2)
        features = torch.cat([self._embed_windows(part) for part in pixels.split(some)])
        maps = torch.einsum("iswd,id->isw", features[image], self.embed_text(tokens)).mean(dim=1)
        return as_grid(maps)

    def _embed_windows(self, pixels: Tensor) -> Tensor:
        """(images, sizes, windows, embedding_size), of length 1."""
        _, patches = self.image_encoder(pixels)
        visible = self.visible_crop(pixels.shape[-1])
        seen = pixels[..., visible, visible]
        features = []
        for size in self.config.windows:
            crops = windows(seen, size, self.config.window_grid, self.crop_size)
            encoded, _ = self.image_encoder(crops.flatten(0, 1))
            fused = self.roi_processor.fuse(encoded.unflatten(0, crops.shape[:2]), patches)
            features.append(unit_length(self.region_projection(fused)))
        return torch.stack(features, dim=1)

    def _fuse(self, images: Images, patches: Tensor) -> Tensor:
        """F of eq. 3: (regions, embedding_size), of length 1."""
        crops, _ = self.image_encoder(images.crops)
        return unit_length(self.region_projection(self.roi_processor(crops, patches, images.owner)))

    def _mean_region(self, images: Images, whole: Tensor, patches: Tensor) -> Tensor:
        everyone = torch.arange(len(whole), device=whole.device)
        itself = unit_length(self.region_projection(self.roi_processor(whole, patches, everyone)))
        if not len(images.owner):
            return itself
        total = torch.zeros_like(itself).index_add_(0, images.owner, self._fuse(images, patches))
        has_regions = torch.isin(everyone, images.owner).unsqueeze(-1)
        return unit_length(torch.where(has_regions, total, itself))

    def forward(self, batch: Batch, losses: Sequence[str]) -> dict[str, Tensor]:
        """The requested losses, each a scalar; the training loop adds them up (eq. 8)."""
        config = self.config
        whole, patches = self.image_encoder(batch.images.pixels)
        terms = self.sentence_terms(batch, patches, losses)
        if "report" in losses or "summary" in losses:
            images = unit_length(self.image_projection(whole))
        if "report" in losses:
            terms["report"] = info_nce(
                images,
                self.embed_text(batch.report),
                config.temperature,
                keys=self.target_keys(batch.report),
                symmetric=config.symmetric,
            )
        if "summary" in losses:
            summaries = self.embed_text(batch.summary)
            terms["summary"] = info_nce(
                images,
                summaries,
                config.temperature,
                valid=batch.has_summary,
                keys=self.target_keys(batch.summary),
                symmetric=config.symmetric,
            )
        if "region" in losses or "negatives" in losses:
            terms |= self._region_losses(batch, patches, losses)
        return terms

    def _region_losses(self, batch: Batch, patches: Tensor, losses: Sequence[str]) -> dict[str, Tensor]:
        config, count = self.config, len(batch.images.owner)
        rows = len(batch.keys) * config.max_regions
        # Padded to what the batch could hold at most: all workers must gather the same number of rows.
        valid = torch.arange(rows, device=patches.device) < count
        if count:
            fused, phrases = self._fuse(batch.images, patches), self.embed_text(batch.phrases)
        else:
            # No image of the batch has a described region: no rows, but of the same graph, which the loss of 0 needs
            # for its gradient.
            pixels = batch.images.pixels[:1]
            whole = Images(pixels, pixels, torch.zeros(1, dtype=torch.long, device=pixels.device))
            fused, phrases = self._fuse(whole, patches[:1])[:0], self.embed_text(batch.report)[:0]
        regions = _pad(fused, rows)
        captions = _pad(phrases[batch.region], rows)
        terms = {}
        if "region" in losses:
            keys = self.target_keys(batch.phrases)
            if keys is not None:
                keys = F.pad(keys[batch.region], (0, rows - count))
            terms["region"] = info_nce(
                regions, captions, config.temperature, valid=valid, keys=keys, symmetric=config.symmetric
            )
        if "negatives" in losses:
            negatives = _pad(phrases[batch.negatives].flatten(1), rows).view(rows, NEGATIVES, -1)
            if config.negative_loss == "softmax":
                loss = negative_choice(regions, captions, negatives, config.temperature, valid=valid)
            else:
                loss = hard_negatives(regions, negatives, valid=valid, temperature=config.negative_temperature)
            terms["negatives"] = loss
        return terms


def _pad(features: Tensor, rows: int) -> Tensor:
    return torch.nn.functional.pad(features, (0, 0, 0, rows - len(features)))
