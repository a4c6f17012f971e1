"""The few collective operations that the losses need; each is the identity in a single process."""

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, value: Tensor) -> Tensor:
        parts = [torch.empty_like(value) for _ in range(world_size())]
        dist.all_gather(parts, value.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        # Every worker's loss depends on every worker's rows, so their gradients add up before each takes its own.
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(world_size())[rank()]


def all_gather(value: Tensor) -> Tensor:
    """Rows of all workers, in rank order, with gradient. All workers hold the same number of rows."""
    if world_size() == 1:
        return value
    if value.dtype == torch.bool:
        return all_gather(value.to(torch.uint8)).bool()
    return _AllGather.apply(value) if value.is_floating_point() else _AllGather.forward(None, value)  # type: ignore[arg-type]


def all_gather_padded(value: Tensor) -> Tensor:
    """Like `all_gather` for (rows, columns, ...) with another number of columns on each worker: zeros fill them up."""
    if world_size() == 1:
        return value
    columns = torch.tensor(value.shape[1], device=value.device)
    dist.all_reduce(columns, op=dist.ReduceOp.MAX)
    missing = int(columns) - value.shape[1]
    return all_gather(torch.nn.functional.pad(value, [0, 0] * (value.ndim - 2) + [0, missing]))


def all_reduce_sum(value: Tensor) -> Tensor:
    """Sum over workers, without gradient."""
    if world_size() > 1:
        value = value.detach().clone()
        dist.all_reduce(value)
    return value
