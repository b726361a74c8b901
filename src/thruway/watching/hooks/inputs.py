"""Capture of the tensors that the training loop passes to the model."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from thruway.watching.hooks.capture import Capture
from thruway.watching.modules import named_outputs
from thruway.watching.sites import Registry

__all__ = ["NOTHING", "capture_inputs"]

NOTHING: Mapping[str, Any] = {}  # keyword arguments of a call without any


def capture_inputs(
    capture: Capture, registry: Registry, path: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
) -> None:
    """Capture the floating-point tensors among the arguments of a call, as sites of kind "input".

    The first argument is named "input", the following ones "input.1", "input.2" ..., and a keyword argument has its own
    name. If the training loop calls a part of the model, these names follow the part's path, and tensors that another
    part computed are left out.
    """
    if capture.is_paused:
        return
    before = f"{path}." if path else ""
    named = [("input" if index == 0 else f"input.{index}", value) for index, value in enumerate(arguments)]
    with torch._C.DisableTorchFunction():
        try:
            for name, value in [*named, *keywords.items()]:
                for suffix, tensor in named_outputs(value):
                    if _is_measurable(tensor) and not (path and tensor.grad_fn is not None):
                        capture.collector.add(registry.input(f"{before}{name}{suffix}", tensor), tensor)
        except Exception as error:
            capture.fail(error)


def _is_measurable(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.layout is torch.strided and not tensor.is_meta and tensor.numel() > 0
