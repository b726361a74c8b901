"""Arithmetic counted while a pass runs, below the functions: a multiply-add is two operations.

torch has a counter of its own, but importing it loads the compiler, which takes seconds.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["FLOPS", "FlopsCounted"]

aten = torch.ops.aten


class FlopsCounted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While entered, `total` grows with every product of matrices, convolution and attention."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the first pass loads the compiler, to tell it to keep away

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
    # Every number of the output, or transposed of the input, meets each kernel of its group once.
    return 2 * (x if is_transposed else y).numel() * math.prod(weight.shape[1:])


def _attention(result: Any, query: Tensor, key: Tensor, value: Tensor, *others: Any) -> int:
    *heads, positions, width = query.shape
    return 2 * math.prod(heads) * positions * key.shape[-2] * (width + value.shape[-1])


# What the counter knows; everything else is elementwise, and counts nothing
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
