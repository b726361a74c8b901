"""Counting floating point operations during a pass. One multiply-add counts as two.

PyTorch has a FLOP counter too, but importing it loads the compiler, which takes seconds.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["FLOPS", "FlopCounter"]

aten = torch.ops.aten


class FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context manager that adds up the FLOPs of matrix products, convolutions and attention in `total`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # if True, the first pass would load the compiler only to disable it

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        count = FLOPS.get(getattr(func, "_overloadpacket", None))
        if count is not None:
            self.total += count(result, *args)
        return result


def _product(y: Tensor, a: Tensor, *others: Any) -> int:
    return 2 * y.numel() * a.shape[-1]


def _product_added(y: Tensor, bias: Tensor, a: Tensor, *others: Any) -> int:
    return _product(y, a)


def _convolution(y: Tensor, x: Tensor, weight: Tensor, *others: Any) -> int:
    # others: bias, stride, padding, dilation, transposed, ...
    is_transposed = len(others) > 4 and bool(others[4])
    # Each element of the output (of the input, if transposed) is multiplied with each kernel of its group once.
    return 2 * (x if is_transposed else y).numel() * math.prod(weight.shape[1:])


def _attention(result: Any, query: Tensor, key: Tensor, value: Tensor, *others: Any) -> int:
    *heads, positions, width = query.shape
    return 2 * math.prod(heads) * positions * key.shape[-2] * (width + value.shape[-1])


# Operations that are counted. Elementwise ones count as 0.
FLOPS: dict[Any, Callable[..., int]] = {
    aten.mm: _product,
    aten.bmm: _product,
    aten.mv: _product,
    aten.dot: _product,
    aten.addmm: _product_added,
    aten.addmv: _product_added,
    aten.baddbmm: _product_added,
    aten.convolution: _convolution,
    aten._convolution: _convolution,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention: _attention,
    aten._scaled_dot_product_efficient_attention: _attention,
    aten._scaled_dot_product_cudnn_attention: _attention,
}
