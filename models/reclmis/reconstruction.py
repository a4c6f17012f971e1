"""CVR and CLR (sections III-C and III-D): patches and words from what masking left of them and from each other."""

from torch import Tensor, nn

from models.reclmis.config import RecLMISConfig
from models.reclmis.masking import masked
from models.reclmis.reconstructor import Reconstructor
from models.reclmis.sequences import Sequences


class Reconstruction(nn.Module):
    """The reconstructors that are on; inference does without.

    Args:
        config: Which, and how.
        target_width: Of what is reconstructed of the text.
    """

    def __init__(self, config: RecLMISConfig, target_width: int) -> None:
        super().__init__()
        self.config = config
        self.vision = Reconstructor(config) if config.vision_reconstruction else None
        self.language = Reconstructor(config) if config.language_reconstruction else None
        fits = self.language is None or target_width == config.width
        self.to_target = nn.Identity() if fits else nn.Linear(config.width, target_width)

    def forward(self, patches: Sequences, words: Sequences) -> dict[str, Tensor]:
        """V-hat (batch, patches, width) and E-hat (batch, words, target width), by the names of their losses."""
        config, count = self.config, patches.mask.shape[1]
        joint = config.reconstruction == "self"
        # Random numbers are drawn for what is used alone.
        if self.vision is not None or joint:
            hidden_patches = masked(self._drawn_by(patches), config.vision_mask_ratio)
        if self.language is not None or joint:
            hidden_words = masked(self._drawn_by(words), config.text_mask_ratio)
        if joint:
            target, source = hidden_patches.followed_by(hidden_words), patches.followed_by(words)
        reconstructed = {}
        if self.vision is not None:
            pair = (target, source) if joint else (hidden_patches, words)
            reconstructed["vision_reconstruction"] = self.vision(*pair, conditioned=config.vision_condition)[:, :count]
        if self.language is not None:
            pair = (target, source) if joint else (hidden_words, patches)
            rebuilt = self.language(*pair, conditioned=config.language_condition)
            reconstructed["language_reconstruction"] = self.to_target(rebuilt[:, count:] if joint else rebuilt)
        return reconstructed

    def _drawn_by(self, sequences: Sequences) -> Sequences:
        return sequences if self.config.masking == "learned" else sequences.evenly()
