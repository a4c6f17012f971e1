"""The cost of one mask: parameters and floating-point operations."""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models.capabilities import SegmentsFromText
from models.data.batches import Images, Tokens
from models.encoders import encoding_anew
from models.method import Method
from pipelines.evaluate.latency import clear_text_cache


def cost(model: Method, images: Images, tokens: Tokens) -> dict[str, int]:
    """Parameters, and operations of `segment` on one image and one text, the text encoder included.

    Args:
        model: Offers SegmentsFromText; in evaluation mode.
        images: One image.
        tokens: One text.

    FLOPs are those of torch's counter, which counts matrix products and convolutions: two for each multiplication
    with its addition. MACs are half of them; papers print either under the name of the other.
    """
    assert isinstance(model, SegmentsFromText)
    fast = torch.backends.mha.get_fastpath_enabled()
    # The counter does not know the fused kernels of attention on CPUs and counts nothing for them.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        clear_text_cache(model)
        # The counter follows modules by their gradients, and stops at one that should have none.
        with (
            torch.enable_grad(),
            encoding_anew(model),
            sdpa_kernel(SDPBackend.MATH),
            FlopCounterMode(display=False) as counter,
        ):
            model.segment(images, tokens)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    flops = counter.get_total_flops()
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return {
        "parameters_total": sum(size for size, _ in sizes),
        "parameters_trainable": sum(size for size, trained in sizes if trained),
        "flops": flops,
        "macs": flops // 2,
    }
