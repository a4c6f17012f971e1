"""What one mask costs: parameters, floating-point operations, time."""

import copy
import statistics
import time
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models.data.batches import Images, Tokens
from models.encoders import TextEncoder

WARM_UP, RUNS = 3, 20


def cost(model: Any, images: Images, tokens: Tokens) -> dict[str, int]:
    """Parameters, and operations of `segment` on one image and one text, the text's encoder included.

    FLOPs are those of torch's counter, which counts matrix products and convolutions: two for each multiplication
    with its addition. MACs are half of them; papers print either under the name of the other.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    # The counter does not know the fused kernels of attention on CPUs and takes them for nothing.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        _forget_texts(model)
        # The counter follows modules by their gradients, and stops at one that should have none.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
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


@torch.inference_mode()
def latency(model: Any, images: Images, tokens: Tokens) -> float:
    """Milliseconds of `segment` on the CPU, the text's encoder included: median of `RUNS` after `WARM_UP`."""
    times = []
    for _ in range(WARM_UP + RUNS):
        _forget_texts(model)
        start = time.perf_counter()
        model.segment(images, tokens)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[WARM_UP:])


def _forget_texts(model: Any) -> None:
    """A frozen encoder keeps what it made of each text: the next one is to cost what a new one does."""
    for part in model.modules():
        if isinstance(part, TextEncoder) and part.cache is not None:
            part.cache = copy.copy(part.cache)
