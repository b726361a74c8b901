"""Effective depth of a model with its current weights, and with those of several checkpoints."""

import contextlib
import copy
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from thruway.dissecting.paths.effective_depth import EffectiveDepth
from thruway.dissecting.paths.gradients import AT_ONCE, Loss, path_gradients
from thruway.dissecting.paths.results import ByLength
from thruway.dissecting.paths.sampling import DRAWS, sampled_paths
from thruway.dissecting.paths.start import Where
from thruway.dissecting.running.engine import Engine
from thruway.errors import CheckpointError, ConfigError
from thruway.runs import Table

__all__ = ["Method", "effective_depth", "effective_depth_over_training"]

Method = Literal["exact", "sampled"]

Checkpoints = Mapping[Any, Mapping[str, Any]] | Iterable[Mapping[str, Any]]


def effective_depth(
    engine: Engine,
    loss: Loss,
    inputs: Any = None,
    targets: Any = None,
    *,
    method: Method = "exact",
    level: float = 0.95,
    where: Where | None = None,
    examples: int | None = None,
    at_once: int = AT_ONCE,
    draws: int | None = None,
    generator: torch.Generator | None = None,
) -> EffectiveDepth:
    """The mean path length in branches, each length weighted by the gradient that its paths carry.

    The two methods answer different questions. "exact" weights a length by the norm of the sum over its paths, which
    may cancel: the gradient that arrives. "sampled" weights it by the norm of single paths times their number, as
    the paper does: the gradient that would arrive if all paths pointed the same way. "sampled" gives the larger depth.

    Args:
        loss, inputs, targets, where, examples, at_once: see `path_gradients`.
        method: "exact" (`path_gradients`) or "sampled" (`sampled_paths`).
        level: coverage of the bootstrap interval over examples.
        draws, generator: see `sampled_paths`; for "sampled" only.
    Raises:
        ConfigError: for an unknown method, a level outside (0, 1), or `draws` or `generator` with "exact"; and the
            errors of the method.
    Source:
        Ours, based on the analysis of Veit, Wilber & Belongie 2016, sec. 4.

    >>> from thruway.dissecting import dissect
    >>> from thruway.nn import Residual
    >>> branch = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(branch.weight, 1.0)
    >>> d = dissect(nn.Sequential(Residual(branch), Residual(branch)), torch.ones(3, 1))
    >>> d.effective_depth(lambda y: y.sum(1))
    effective depth 1.00 branches (1.00 to 1.00, 95% bootstrap over 3 examples)
    """
    analyse = _analysis(method, draws, generator, where=where, examples=examples, at_once=at_once)
    return analyse(engine, loss, inputs, targets).effective_depth(level)


def effective_depth_over_training(
    engine: Engine,
    checkpoints: Checkpoints,
    loss: Loss,
    inputs: Any = None,
    targets: Any = None,
    *,
    method: Method = "exact",
    share: float = 0.95,
    level: float = 0.95,
    where: Where | None = None,
    examples: int | None = None,
    at_once: int = AT_ONCE,
    draws: int | None = None,
    generator: torch.Generator | None = None,
) -> Table:
    """Effective depth and effective paths at each checkpoint, on the same examples.

    Checkpoints are loaded one after another, so an iterable that reads them from disk needs memory for only one.
    Afterwards, also after an error, the model's weights and buffers are restored bit for bit.

    Args:
        checkpoints: mapping from step to state dict, or an iterable of state dicts.
        share: share of the contribution that defines the effective paths.
        level: coverage of the interval of the effective depth.
        loss, inputs, targets, where, examples, at_once: see `path_gradients`.
        method, draws, generator: see `effective_depth`.
    Returns:
        Columns checkpoint, effective_depth, low, high, shortest, longest (effective paths), paths (share of all).
    Raises:
        CheckpointError: for a state dict that does not fit the model.
        ConfigError: for an unknown method, or if there are no checkpoints.

    >>> from thruway.dissecting import dissect
    >>> from thruway.nn import Residual
    >>> net = nn.Sequential(*(Residual(nn.Linear(1, 1, bias=False)) for _ in range(2)))
    >>> states = {step: {name: torch.full((1, 1), float(step)) for name in net.state_dict()} for step in (0, 1)}
    >>> d = dissect(net, torch.ones(1, 1))
    >>> d.over_training(states, lambda y: y.sum())["effective_depth"].tolist()
    [0.0, 1.0]
    """
    analyse = _analysis(method, draws, generator, where=where, examples=examples, at_once=at_once)
    rows: list[tuple[Any, ...]] = []
    labelled = checkpoints.items() if isinstance(checkpoints, Mapping) else enumerate(checkpoints)
    with _restored_state(engine.model):
        for label, state in labelled:
            _load(engine.model, label, state)
            result = analyse(engine, loss, inputs, targets)
            depth, effective = result.effective_depth(level), result.effective_paths(share)
            rows.append((label, depth.value, depth.low, depth.high, *effective[:2], effective.paths))
    if not rows:
        raise ConfigError("there are no checkpoints. Pass state dicts, by step or in order.")
    names = ("checkpoint", "effective_depth", "low", "high", "shortest", "longest", "paths")
    return Table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def _analysis(
    method: str,
    draws: int | None,
    generator: torch.Generator | None,
    *,
    where: Where | None,
    examples: int | None,
    at_once: int,
) -> Callable[[Engine, Loss, Any, Any], ByLength]:
    """The chosen analysis with its options set."""
    if method == "sampled":
        draws = DRAWS if draws is None else draws
        return functools.partial(
            sampled_paths, draws=draws, generator=generator, where=where, examples=examples, at_once=at_once
        )
    if method != "exact":
        raise ConfigError(f"method is one of exact, sampled, got {method!r}.")
    if draws is not None or generator is not None:
        raise ConfigError('the exact analysis draws nothing. Leave out draws and generator, or use method="sampled".')
    return functools.partial(path_gradients, where=where, examples=examples, at_once=at_once)


def _load(model: nn.Module, label: Any, state: Mapping[str, Any]) -> None:
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"checkpoint {label} does not fit {type(model).__name__}: {error}. Pass state dicts of this model."
        ) from error


@contextlib.contextmanager
def _restored_state(model: nn.Module) -> Iterator[None]:
    """Restore every parameter and buffer bit for bit when the block ends."""
    kept = {
        name: value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value)
        for name, value in model.state_dict().items()
    }
    try:
        yield
    finally:
        with torch.no_grad():
            model.load_state_dict(kept)
