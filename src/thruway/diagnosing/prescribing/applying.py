"""Application of a cure: its result, the error if it cannot be applied, and changes of modules and optimizers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from thruway.diagnosing.prescribing.facts import Facts
from thruway.diagnosing.prescribing.setup import Setup

__all__ = ["Application", "Case", "Changed", "NotApplicableError", "put", "with_model"]


class NotApplicableError(Exception):
    """A cure cannot be applied to this model; the message says why."""


@dataclass(frozen=True)
class Case:
    """Facts, batches and seed that a cure may use besides the setup.

    Attributes:
        facts: facts about the unchanged model.
        batches: the training batches.
        seed: seed of the run, for new weights.
    """

    facts: Facts
    batches: Sequence[tuple[Any, Any]]
    seed: int


@dataclass(frozen=True)
class Changed:
    """A setup after a cure, and the code that makes the same change in a script."""

    setup: Setup
    code: str


@dataclass(frozen=True)
class Application:
    """The way in which a cure is applied.

    Attributes:
        name: key of CURES.
        apply: function of (setup, case) that returns the changed setup. It may change the setup's model and optimizer
            in place, and raises NotApplicableError if it does not fit the model.
        family: cures of one family change the same thing; the placebo comes from another family than the cures.
    """

    name: str
    apply: Callable[[Setup, Case], Changed]
    family: str


def put(model: nn.Module, path: str, module: nn.Module) -> None:
    """Replace the submodule at `path`."""
    parent, _, name = path.rpartition(".")
    owner = model.get_submodule(parent)
    if name not in owner._modules:
        raise NotApplicableError(f"there is no submodule {path!r}")
    owner._modules[name] = module


def with_model(setup: Setup, model: nn.Module, known: set[nn.Parameter]) -> Setup:
    """Return the setup with another model, whose new parameters are passed to the optimizer.

    Args:
        setup: setup whose optimizer holds parameters of the former model.
        model: changed model.
        known: parameters of the former model. Those that the optimizer does not hold stay outside of it.
    """
    now = list(model.parameters())
    kept = set(now)
    groups = setup.optimizer.param_groups
    for group in groups:
        group["params"] = [p for p in group["params"] if p in kept or p not in known]
    groups[0]["params"] += [p for p in now if p not in known and p.requires_grad]
    return replace(setup, model=model)
