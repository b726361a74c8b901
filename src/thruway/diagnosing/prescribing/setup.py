"""Setup of a training run: model, optimizer and loop, built from the user's function without side effects."""

import contextlib
import inspect
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from thruway.errors import ConfigError
from thruway.seeding import derive

__all__ = ["DEFAULT_RATE", "Build", "Scaling", "Setup", "build_setup", "check_build", "scaled", "seeded"]

DEFAULT_RATE = 0.1  # of SGD, if `build` returns no optimizer

Build = Callable[..., nn.Module | tuple[nn.Module, Optimizer]]


@dataclass(frozen=True, eq=False)
class Scaling:
    """An affine map of the inputs: (x - mean) / std."""

    mean: Tensor
    std: Tensor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scaling) and torch.equal(self.mean, other.mean) and torch.equal(self.std, other.std)

    __hash__ = None  # type: ignore[assignment]  # compared by value

    def __call__(self, inputs: Tensor) -> Tensor:
        return (inputs - self.mean) / self.std


@dataclass(frozen=True)
class Setup:
    """All that a cure can change.

    Attributes:
        model: the model.
        optimizer: its optimizer.
        clip: maximum L2 norm of the gradient, or None.
        zero_grad: False if the loop adds the gradients of all steps, as a script without zero_grad() does.
        scaling: map of the inputs, or None.
    """

    model: nn.Module
    optimizer: Optimizer
    clip: float | None = None
    zero_grad: bool = True
    scaling: Scaling | None = None


def scaled(batch: tuple[Any, Any], scaling: Callable[[Tensor], Tensor]) -> tuple[Any, Any]:
    """Return the batch with its first tensor of inputs scaled."""
    inputs, targets = batch
    if isinstance(inputs, tuple):
        return (scaling(inputs[0]), *inputs[1:]), targets
    if isinstance(inputs, dict):
        first = next(iter(inputs))
        return {**inputs, first: scaling(inputs[first])}, targets
    return scaling(inputs), targets


def check_build(build: Any) -> bool:
    """Return True if `build` takes a seed.

    Raises:
        ConfigError: if it is not a function without arguments, or with the single argument seed.
    """
    if not callable(build) or isinstance(build, nn.Module):
        raise ConfigError(
            f"build must be a function that returns a new model, or (model, optimizer), got {type(build).__name__}. "
            "Pass for example lambda: MyModel(), so that every run can start from new weights."
        )
    try:
        parameters = list(inspect.signature(build).parameters.values())
    except (TypeError, ValueError):  # a built-in class
        return False
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(required) > 1:
        raise ConfigError(
            f"build must take no argument, or a seed, but it has {len(required)} arguments without a default: "
            f"{', '.join(p.name for p in required)}. Wrap it: lambda: build(...)."
        )
    return bool(required) or any(p.name == "seed" for p in parameters)


def build_setup(build: Build, takes_seed: bool, seed: int, *, zero_grad: bool = True) -> Setup:
    """Call `build` with the global generators seeded by `seed`, and restore them.

    Raises:
        ConfigError: if `build` returns something other than a model, or (model, optimizer), or an optimizer that
            has already been used.
    """
    with seeded(seed, "build"):
        built = (build(seed=seed) if _is_keyword_only(build) else build(seed)) if takes_seed else build()
    model, optimizer = built if isinstance(built, tuple) and len(built) == 2 else (built, None)
    if not isinstance(model, nn.Module) or not (optimizer is None or isinstance(optimizer, Optimizer)):
        raise ConfigError(
            f"build must return a model, or (model, optimizer), got {_described(built)}. Return the nn.Module and, "
            "if it is something other than SGD, its torch.optim.Optimizer."
        )
    if next(model.parameters(), None) is None:
        raise ConfigError(f"the {type(model).__name__} returned by build has no parameters, so nothing can be trained.")
    if optimizer is None:
        optimizer = SGD(model.parameters(), lr=DEFAULT_RATE)
    if any(float(state.get("step", 1)) > 0 for state in optimizer.state.values()):
        raise ConfigError(
            f"the {type(optimizer).__name__} returned by build has already made steps. Build a new model and a new "
            "optimizer in every call."
        )
    return Setup(model, optimizer, zero_grad=zero_grad)


def _is_keyword_only(build: Build) -> bool:
    return any(p.name == "seed" and p.kind is p.KEYWORD_ONLY for p in inspect.signature(build).parameters.values())


def _described(built: Any) -> str:
    if isinstance(built, tuple):
        return f"({', '.join(type(item).__name__ for item in built)})"
    return type(built).__name__


@contextlib.contextmanager
def seeded(seed: int, *names: str | int) -> Iterator[None]:
    """Seed the global generators of PyTorch, NumPy and Python during the block, and restore their states."""
    own = derive(seed, *names)
    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=list(devices)):
        torch.default_generator.manual_seed(own)
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(own)
        random.setstate(random.Random(own).getstate())
        np.random.set_state(np.random.RandomState(own % 2**32).get_state())
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
