"""Effective depth as the model stands, and while it learns: the same analysis at checkpoint after checkpoint."""

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from thruway.dissecting.paths.effective_depth import EffectiveDepth
from thruway.dissecting.paths.gradients import Loss, path_gradients
from thruway.dissecting.paths.results import ByLength
from thruway.dissecting.paths.sampling import sampled_paths
from thruway.errors import CheckpointError, ConfigError
from thruway.runs import Table

if TYPE_CHECKING:
    from thruway.dissecting.dissection import Dissection

__all__ = ["Method", "effective_depth", "effective_depth_over_training"]

Method = Literal["exact", "sampled"]

METHODS: dict[str, Callable[..., ByLength]] = {"exact": path_gradients, "sampled": sampled_paths}

Checkpoints = Mapping[Any, Mapping[str, Any]] | Iterable[Mapping[str, Any]]


def effective_depth(
    dissection: "Dissection",
    loss: Loss,
    inputs: Any = None,
    targets: Any = None,
    *,
    method: Method = "exact",
    level: float = 0.95,
    **options: Any,
) -> EffectiveDepth:
    """The mean path length in branches, each length weighted by the gradient that its paths carry.

    The two methods answer two questions. "exact" weighs a length by the norm of the sum over its paths, in which
    paths cancel: what arrives. "sampled" weighs it by the norm of single paths times their number, as the paper
    does: what would arrive if all pointed the same way; it says deeper.

    Args:
        method: "exact" (`path_gradients`) or "sampled" (`sampled_paths`).
        level: of the bootstrap interval over examples.
        loss, inputs, targets, options: as the method takes them.
    Raises:
        ConfigError: for a method or a level that cannot be; and what the method raises.
    Source:
        Ours, on the analysis of Veit, Wilber & Belongie 2016, sec. 4.

    >>> from thruway.dissecting import dissect
    >>> from thruway.nn import Residual
    >>> branch = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(branch.weight, 1.0)
    >>> d = dissect(nn.Sequential(Residual(branch), Residual(branch)), torch.ones(3, 1))
    >>> d.effective_depth(lambda y: y.sum(1))
    effective depth 1.00 branches (1.00 to 1.00, 95% bootstrap over 3 examples)
    """
    return _analysis(method)(dissection, loss, inputs, targets, **options).effective_depth(level)


def effective_depth_over_training(
    dissection: "Dissection",
    checkpoints: Checkpoints,
    loss: Loss,
    inputs: Any = None,
    targets: Any = None,
    *,
    method: Method = "exact",
    share: float = 0.95,
    level: float = 0.95,
    **options: Any,
) -> Table:
    """Effective depth and effective paths at each checkpoint, on the same examples.

    Checkpoints are loaded one after another, so an iterable that reads them from disk needs memory for one.
    Afterwards, also after an error, the model's weights and buffers are what they were, bit for bit.

    Args:
        checkpoints: state dicts, by step or in order.
        method: "exact" (`path_gradients`) or "sampled" (`sampled_paths`).
        share: of the contribution that effective paths carry.
        level: of the interval of the effective depth.
        loss, inputs, targets, options: see `path_gradients`; draws and generator for "sampled".
    Returns:
        Columns checkpoint, effective_depth, low, high, shortest, longest (effective paths), paths (share of all).
    Raises:
        CheckpointError: for a state dict that does not fit the model.
        ConfigError: for a method that does not exist, or no checkpoints.

    >>> from thruway.dissecting import dissect
    >>> from thruway.nn import Residual
    >>> net = nn.Sequential(*(Residual(nn.Linear(1, 1, bias=False)) for _ in range(2)))
    >>> states = {step: {name: torch.full((1, 1), float(step)) for name in net.state_dict()} for step in (0, 1)}
    >>> d = dissect(net, torch.ones(1, 1))
    >>> effective_depth_over_training(d, states, lambda y: y.sum())["effective_depth"].tolist()
    [0.0, 1.0]
    """
    analysis = _analysis(method)
    rows: list[tuple[Any, ...]] = []
    labelled = checkpoints.items() if isinstance(checkpoints, Mapping) else enumerate(checkpoints)
    with _kept_state(dissection.model):
        for label, state in labelled:
            _load(dissection.model, label, state)
            result = analysis(dissection, loss, inputs, targets, **options)
            depth, effective = result.effective_depth(level), result.effective_paths(share)
            rows.append((label, depth.value, depth.low, depth.high, *effective[:2], effective.paths))
    if not rows:
        raise ConfigError("no checkpoints came. Give state dicts, by step or in order.")
    names = ("checkpoint", "effective_depth", "low", "high", "shortest", "longest", "paths")
    return Table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def _analysis(method: str) -> Callable[..., ByLength]:
    if method not in METHODS:
        raise ConfigError(f"method is one of {', '.join(METHODS)}, got {method!r}.")
    return METHODS[method]


def _load(model: nn.Module, label: Any, state: Mapping[str, Any]) -> None:
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"checkpoint {label} does not fit {type(model).__name__}: {error}. Give state dicts of this very model."
        ) from error


@contextlib.contextmanager
def _kept_state(model: nn.Module) -> Iterator[None]:
    """Afterwards every parameter and buffer has the bits it had."""
    kept = {
        name: value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value)
        for name, value in model.state_dict().items()
    }
    try:
        yield
    finally:
        with torch.no_grad():
            model.load_state_dict(kept)
