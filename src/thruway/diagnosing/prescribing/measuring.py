"""Mode in which losses are measured: without dropout, and with batch norm on the statistics of the batch."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

__all__ = ["measuring_mode"]


@contextlib.contextmanager
def measuring_mode(model: nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode, except for batch norm, and restore the training flags at the end.

    Running statistics lag behind parameters that change fast, so batch norm uses those of the batch; the caller
    restores its buffers. Fused kernels of attention, which not all transforms support, are switched off.
    """
    modes = {module: module.training for module in model.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    for module in modes:
        module.training = isinstance(module, nn.modules.batchnorm._BatchNorm) and modes[module]
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, was_training in modes.items():
            module.training = was_training
