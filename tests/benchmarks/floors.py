"""How fast a model call could be on a device: what it must move and multiply, and the rates that the device reaches."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from diffusers.models.transformers.ace_step_transformer import AceStepAttention
from torch import Tensor, nn


@dataclass(frozen=True)
class Rates:
    """What the device reached in a large copy (read and written bytes) and a large matrix product."""

    bytes_per_s: float
    flops_per_s: float


@dataclass
class Work:
    """What one model call cannot do without."""

    bytes: float = 0
    flops: float = 0


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return how long work takes until the device has finished it."""
    if device.type != "cuda":
        start_s = time.perf_counter()
        work()
        return time.perf_counter() - start_s
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    work()
    end.record()
    end.synchronize()
    elapsed_ms: float = start.elapsed_time(end)
    return elapsed_ms / 1000


def median_seconds(work: Callable[[], object], device: torch.device, *, times: int) -> float:
    """Return the median of `times` runs, after one that is not measured."""
    work()
    return median(seconds(work, device) for _ in range(times))


def measure_rates(device: torch.device, dtype: torch.dtype, *, is_toy: bool) -> Rates:
    copied_bytes, width = (2**22, 256) if is_toy else (2**31, 8192)
    source = torch.empty(copied_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    # Random numbers: zeros multiply faster than any real data, for they need less power.
    one, other = torch.randn(2, width, width, device=device, dtype=dtype).unbind()
    copy_s = median_seconds(lambda: target.copy_(source), device, times=10)
    product_s = median_seconds(lambda: torch.mm(one, other), device, times=10)
    return Rates(2 * copied_bytes / copy_s, 2 * width**3 / product_s)


@torch.no_grad()
def count_work(transformer: nn.Module, inputs: dict[str, Any]) -> Work:
    """Count a call's work: each matrix read once, its input and output moved once, and attention where it looks.

    A layer with a sliding window is counted with its window only, also where an implementation computes all pairs.
    """
    work = Work()

    def matrix(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        weight: Any = module.weight
        x = args[0]
        # A transposed convolution applies its matrix at each input position, the others at each output position.
        positions = x.numel() / x.shape[1] if isinstance(module, nn.ConvTranspose1d) else _positions(module, output)
        work.flops += 2 * weight.numel() * positions
        work.bytes += (weight.numel() + x.numel() + output.numel()) * weight.element_size()

    def attention(module: AceStepAttention, _: tuple[Tensor, ...], options: dict[str, Any], __: Tensor) -> None:
        queries = options["hidden_states"]
        keys = options.get("encoder_hidden_states")
        length = queries.shape[1]
        pairs = _pairs(length, module.sliding_window) if keys is None else length * keys.shape[1]
        work.flops += 4 * len(queries) * module.heads * module.head_dim * pairs

    hooks = [
        module.register_forward_hook(matrix)
        for module in transformer.modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.ConvTranspose1d)
    ]
    hooks += [
        module.register_forward_hook(attention, with_kwargs=True)
        for module in transformer.modules()
        if isinstance(module, AceStepAttention)
    ]
    try:
        transformer(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return work


def _positions(module: nn.Module, output: Tensor) -> float:
    return output.numel() / output.shape[-1 if isinstance(module, nn.Linear) else 1]


def _pairs(length: int, window: int | None) -> int:
    """Count the pairs (i, j) of positions with |i - j| <= window."""
    reach = length - 1 if window is None else min(window, length - 1)
    return length * (2 * reach + 1) - reach * (reach + 1)
