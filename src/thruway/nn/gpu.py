"""Whether this tensor's GPU can run our own kernels, found out by running them."""

import warnings
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

__all__ = ["gpu_kernels"]

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_OLDEST = (7, 5)  # compute capability that Triton still compiles for
# Of numbers near 1. TF32, if the user allows it, rounds a factor to 11 bits; a wrong index or sign is off by about 1.
_TOLERANCE = 1e-2


def gpu_kernels(x: Tensor) -> ModuleType | None:
    """The launches for tensors like x; None where torch's own calls must do.

    They need a GPU of compute capability 7.5, Triton (every CUDA build of PyTorch for Linux brings it), a C compiler,
    float32, bfloat16 or float16, and a real tensor: under a compiler, a tracer or a dispatch mode torch's calls run.
    The first tensor on a device pays for a trial; a GPU that fails it is named in a warning, once, and left alone.
    """
    if not x.is_cuda or x.dtype not in _DTYPES or x.numel() == 0 or torch.compiler.is_compiling():
        return None
    if type(x) not in (Tensor, nn.Parameter) or is_in_torch_dispatch_mode():
        return None
    if x.device not in _FOUND:
        if torch.cuda.is_current_stream_capturing():
            return None  # the trial waits for the GPU, which a recording may not
        _FOUND[x.device] = _find(x.device)
    return _FOUND[x.device]


_FOUND: dict[torch.device, ModuleType | None] = {}


def _find(device: torch.device) -> ModuleType | None:
    try:
        import triton  # noqa: F401
    except ImportError:
        return None
    if torch.cuda.get_device_capability(device) < _OLDEST:
        return None
    try:
        from thruway.nn import triton_launch

        _try(triton_launch, device)
    except Exception as error:  # whatever a compiler, a driver or a wrong number has to say
        warnings.warn(
            f"{torch.cuda.get_device_name(device)} cannot run Thruway's own kernels and takes PyTorch's calls instead, "
            f"which are slower: {type(error).__name__}: {error}",
            stacklevel=2,
        )
        return None
    return triton_launch


def _try(launches: ModuleType, device: torch.device) -> None:
    """One narrow stack and one wide layer, forward and back, against the formulas.

    Raises:
        ArithmeticError: if a number is off.
    """
    rng = torch.Generator().manual_seed(0)
    for depth, width in ((3, 5), (1, launches.NARROW + 6)):
        with torch.enable_grad():
            x, weight, bias, g = (
                torch.randn(shape, generator=rng).to(device)
                for shape in ((1, width, 7), (depth, 1, 2 * width, width), (depth, 1, 2 * width), (1, width, 7))
            )
            leaves = [t.detach().requires_grad_() for t in (x, weight / width**0.5, bias)]
            y = leaves[0]
            for w, b in zip(leaves[1].unbind(0), leaves[2].unsqueeze(-1).unbind(0), strict=True):
                h, t = (w @ y + b).chunk(2, dim=-2)
                y = torch.lerp(y, torch.tanh(h), torch.sigmoid(t))
            wanted = (y, *torch.autograd.grad(y, leaves, g))
        with torch.inference_mode():
            weight = weight / width**0.5
            X, A = x.new_empty(depth, 1, width, 7), x.new_empty(depth, 1, 2 * width, 7)
            X[0] = x
            y, gw, gb = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
            launches.run_layers(weight, bias, "tanh", X, A, y)
            launches.unrun_layers(g, weight, "tanh", X, A, gw, gb)
            for name, one, other in zip(("y", "dL/dx", "dL/dW", "dL/db"), (y, g, gw, gb), wanted, strict=True):
                off = (one - other).abs().max().item()
                if not off <= _TOLERANCE * max(1.0, other.abs().max().item()):
                    raise ArithmeticError(f"{name} of {depth} layers of width {width} is off by {off:.1e}.")
