"""Lets a CUDA build of torchvision be imported beside a CPU build of torch.

pip finds no other torchvision on hosts that cannot reach PyTorch's own index, and importing it fails with "operator
torchvision::nms does not exist": its compiled operators are not loaded. Declared without an implementation they are
enough, for vLLM preprocesses images without calling them. `scripts/vllm_environment.py` copies this file into the
environment where the import fails; a .pth file makes Python run it at each start, in vLLM's child processes too.
"""

import sys

# The operators go when their library does, so it is kept here.
_libraries = []


class _BeforeTorchvision:
    """Declares the operators when torchvision is first imported; it finds no module itself."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _libraries.append(library)
        return None


sys.meta_path.insert(0, _BeforeTorchvision())
