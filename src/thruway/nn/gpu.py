"""Selection of our GPU kernels: they are used on devices where a trial run gives correct results."""

import threading
import warnings
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

__all__ = ["gpu_kernels"]

_OLDEST = (7, 5)  # lowest compute capability that Triton supports
# Tolerances of the trial by dtype, for numbers of size 1. TF32, if enabled, rounds a factor to 11 bits, float16 every
# state to 11, bfloat16 to 8; a wrong index or sign gives an error of about 1.
_TOLERANCE = {torch.float32: 1e-2, torch.float16: 1e-2, torch.bfloat16: 8e-2}

_FOUND: dict[tuple[torch.device, torch.dtype], ModuleType | None] = {}


def gpu_kernels(x: Tensor) -> ModuleType | None:
    """Return the module of kernel launches for tensors like x, or None to use PyTorch's operations.

    The kernels need a GPU of compute capability 7.5, Triton (part of every CUDA build of PyTorch for Linux), a C
    compiler, float32, bfloat16 or float16, and an ordinary tensor: compilers, tracers and dispatch modes see PyTorch's
    operations. The first tensor of a dtype on a device starts a trial run. If it fails, a warning is issued once and
    PyTorch's operations are used from then on. Run one step before capturing a CUDA graph, since neither the trial nor
    compilation is possible during capture.
    """
    if not x.is_cuda or x.dtype not in _TOLERANCE or x.numel() == 0:
        return None
    if torch.compiler.is_compiling() or torch._C._is_tracing():
        return None
    if type(x) not in (Tensor, nn.Parameter) or is_in_torch_dispatch_mode():
        return None
    key = x.device, x.dtype
    if key not in _FOUND:
        if torch.cuda.is_current_stream_capturing():
            return None  # the trial synchronises with the GPU, which is forbidden during capture
        try:
            _FOUND[key] = _load_checked(*key)
        except torch.OutOfMemoryError:
            return None  # says nothing about the kernels: try again with the next tensor
    return _FOUND[key]


def _load_checked(device: torch.device, dtype: torch.dtype) -> ModuleType | None:
    """Return the launches if they pass the trial.

    The trial runs in its own thread, so that it neither depends on nor changes the thread-local state of the caller
    (inference mode, saved-tensor hooks, function modes, default device).
    """
    if torch.cuda.get_device_capability(device) < _OLDEST:
        return None
    found: list[ModuleType | BaseException | None] = []
    thread = threading.Thread(target=lambda: found.append(_load_or_error(device, dtype)))
    thread.start()
    thread.join()
    if isinstance(found[0], torch.OutOfMemoryError):
        raise found[0]
    if isinstance(found[0], BaseException):
        warnings.warn(
            f"{torch.cuda.get_device_name(device)} cannot run Thruway's kernels for {dtype}. Slower PyTorch operations "
            f"are used instead: {type(found[0]).__name__}: {found[0]}",
            stacklevel=2,
        )
        return None
    return found[0]


def _load_or_error(device: torch.device, dtype: torch.dtype) -> ModuleType | Exception | None:
    """Return the launches; None if Triton is not installed; or the error of the compiler, the driver or the check."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return None
    except Exception as error:
        return error
    try:
        from thruway.nn import triton_launch

        with torch.cuda.device(device):
            _check_kernels(triton_launch, device, dtype)
    except Exception as error:
        return error
    return triton_launch


def _check_kernels(launches: ModuleType, device: torch.device, dtype: torch.dtype) -> None:
    """Compare the kernels with the formulas, in the forward and the backward pass.

    This is done for a narrow stack, for the widest stack that is supported, and for a wide layer.

    Raises:
        ArithmeticError: if a result is out of tolerance.
    """
    rng = torch.Generator().manual_seed(0)
    for depth, width in ((3, 5), (3, launches.NARROW - 14), (1, launches.NARROW + 6)):
        shapes = (1, width, 7), (depth, 1, 2 * width, width), (depth, 1, 2 * width), (1, width, 7)
        x, weight, bias, g = (torch.randn(shape, generator=rng, dtype=torch.float32, device="cpu") for shape in shapes)
        leaves = [t.requires_grad_() for t in (x, weight / width**0.5, bias)]
        y = leaves[0]
        for w, b in zip(leaves[1].unbind(0), leaves[2].unsqueeze(-1).unbind(0), strict=True):
            h, t = (w @ y + b).chunk(2, dim=-2)
            y = torch.lerp(y, torch.tanh(h), torch.sigmoid(t))
        wanted = (y, *torch.autograd.grad(y, leaves, g))
        with torch.no_grad():
            x, weight, bias, g = (t.detach().to(device, dtype) for t in (*leaves, g))
            X, A = x.new_empty(depth, 1, width, 7), x.new_empty(depth, 1, 2 * width, 7)
            X[0] = x
            y, gw, gb = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
            launches.forward_layers(weight, bias, "tanh", X, A, y)
            launches.backward_layers(g, weight, "tanh", X, A, gw, gb)
            for name, one, other in zip(("y", "dL/dx", "dL/dW", "dL/db"), (y, g, gw, gb), wanted, strict=True):
                off = (one.cpu().float() - other).abs().max().item()
                if not off <= _TOLERANCE[dtype] * max(1.0, other.abs().max().item()):
                    raise ArithmeticError(f"{name} of {depth} layers of width {width} has an error of {off:.1e}.")
