"""The public object of a dissection: branches, lesions, paths and rankings of one model."""

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar

from torch import nn

from thruway.dissecting import drawing, summary
from thruway.dissecting.finding.branches import Branch, Refusal
from thruway.dissecting.finding.discovery import Discovery
from thruway.dissecting.lesions import deletions, permutations
from thruway.dissecting.paths import gradients, lengths, sampling, training
from thruway.dissecting.pruning import prune as pruning
from thruway.dissecting.ranking import predictions, rankings
from thruway.dissecting.removal import remove as removal
from thruway.dissecting.running.engine import Engine, Merges, Which
from thruway.dissecting.running.lesioned import Lesioned
from thruway.dissecting.running.merging import Merge
from thruway.dissecting.tracing.tape import Tape

__all__ = ["Dissection", "dissect"]

P = ParamSpec("P")
R = TypeVar("R")


def dissect(
    model: nn.Module, example_inputs: Any, *, declare: Iterable[str] = (), ignore: Iterable[str] = ()
) -> "Dissection":
    """Find the residual branches and gated blocks of a model.

    The model runs once on the example and is neither changed nor copied: later passes use its weights as they
    are then. Models of any class are supported. A network without shortcuts is dissected layer by layer.

    Args:
        model: any eager module, in the mode in which it is to be studied, usually after `model.eval()`.
        example_inputs: a tensor, a tuple of arguments, or a dict of keyword arguments. A batch of one is enough.
            Pass `use_cache=False` to a language model: what a branch stores in the cache cannot be skipped.
        declare: paths of modules whose output minus input is a branch that is not found automatically.
        ignore: paths of modules, or names of branches, to leave alone.
    Returns:
        The dissection: `branches`, `refused`, `without(...)`, `delete_each(...)` and so on.
    Raises:
        ConfigError: if `model` is not an eager module, or a path does not exist.
        DissectError: if a declared module changes the shape of its input, or does not use it.
    Source:
        Veit, Wilber & Belongie 2016, sec. 3-4 (definitions of a branch and of its lesion). The search is ours.

    >>> import torch
    >>> from thruway.networks import mlp
    >>> net = mlp("highway", depth=3, width=8, inputs=4, classes=2, generator=torch.Generator().manual_seed(0))
    >>> x = torch.ones(5, 4)
    >>> d = dissect(net, x)
    >>> [(branch.name, branch.kind) for branch in d.branches]
    [('blocks.0', 'gated'), ('blocks.1', 'gated')]
    >>> torch.equal(d.without(0, 1)(x), net.head(net.stem(x)))
    True
    """
    return Dissection(model, example_inputs, declare=declare, ignore=ignore)


def _on_engine(function: Callable[Concatenate[Engine, P], R]) -> Callable[Concatenate["Dissection", P], R]:
    """A method that calls `function` on the dissection's engine, with the same parameters and docstring."""

    @functools.wraps(function)
    def method(self: "Dissection", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return function(self.engine, *args, **kwargs)

    return method


class Dissection:
    """A dissected model. Create one with `dissect`.

    Attributes:
        model: the model, unchanged.
        example_inputs: the inputs it was dissected with.
        branches: the branches found, in the order of their joins.
        refused: candidates that were rejected, each with the reason.
        tape: the recorded pass on which the branches were found.
        engine: runs the model with changed joins.
    """

    def __init__(
        self, model: nn.Module, example_inputs: Any, *, declare: Iterable[str] = (), ignore: Iterable[str] = ()
    ) -> None:
        self.engine = Engine(model, example_inputs, declare, ignore)
        self.model: nn.Module = model
        self.example_inputs: Any = example_inputs
        self.tape: Tape = self.engine.tape
        self.branches: tuple[Branch, ...] = self.engine.branches
        self.refused: tuple[Refusal, ...] = self.engine.refused

    # --- the model, with or without its branches

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the intact model, without any hook or mode."""
        return self.model(*args, **kwargs)

    def without(self, *which: Which | Iterable[Which]) -> Lesioned:
        """Return the model without these branches, given by index, name or Branch: y = x at their joins.

        A gated block is left out by setting T = 0, so that it returns x; a block with a projection returns the
        projection. Values that only these branches need are not computed. Call the result like the model, also with
        other batch sizes.

        Raises:
            ConfigError: for a branch that does not exist.

        >>> import torch
        >>> net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        >>> d = dissect(net, torch.ones(1, 3))
        >>> torch.equal(d.without("0")(torch.ones(2, 3)), net[1](torch.ones(2, 3)))
        True
        """
        return Lesioned(self.engine, {branch.index: None for branch in self.engine.select(which)})

    def merged(self, merges: Mapping[Which, Merge | None]) -> Lesioned:
        """Return the model with other joins: each function maps the `Operands` of a join to its output.

        None leaves the branch out. The functions are called in every pass, with gradients enabled if the pass has them
        enabled.

        Raises:
            ConfigError: for a branch that does not exist.

        >>> import torch
        >>> from thruway.nn import Residual
        >>> net = Residual(nn.Linear(3, 3))
        >>> half = dissect(net, torch.ones(1, 3)).merged({0: lambda at: at.shortcut + 0.5 * at.branch})
        >>> x = torch.ones(2, 3)
        >>> torch.allclose(half(x), x + 0.5 * net.branch(x))
        True
        """
        return Lesioned(self.engine, {self.engine.select([which])[0].index: merge for which, merge in merges.items()})

    def run(self, merges: Merges, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one pass on these arguments with these joins; see `Engine.run`."""
        return self.engine.run(merges, args, kwargs)

    def reading(self, args: tuple[Any, ...], kwargs: dict[str, Any], anew: bool = False) -> tuple[Tape, Discovery]:
        """Deprecated: use `engine.traced`."""
        warnings.warn("Dissection.reading is now Dissection.engine.traced.", DeprecationWarning, stacklevel=2)
        return self.engine.traced(args, kwargs, refresh=anew)

    remove = _on_engine(removal.remove)
    prune = _on_engine(pruning.prune)

    # --- lesions

    delete_each = _on_engine(deletions.delete_each)
    delete = _on_engine(deletions.delete)
    swap = _on_engine(permutations.swap)
    permute = _on_engine(permutations.permute)
    permute_pairs = _on_engine(permutations.permute_pairs)

    # --- rankings of the branches

    predict_deletions = _on_engine(predictions.predict_deletions)
    rankings = _on_engine(rankings.rankings)

    # --- paths

    path_lengths = _on_engine(lengths.path_lengths)
    path_survival = _on_engine(lengths.path_survival)
    path_gradients = _on_engine(gradients.path_gradients)
    sampled_paths = _on_engine(sampling.sampled_paths)
    effective_depth = _on_engine(training.effective_depth)
    over_training = _on_engine(training.effective_depth_over_training)

    # --- display

    draw = _on_engine(drawing.draw)

    def summary(self) -> str:
        """Return a table of all branches, and of the rejected candidates with their reasons."""
        return summary.as_text(self.engine)

    def __repr__(self) -> str:
        return summary.one_line(self.engine)

    def _repr_html_(self) -> str:
        return summary.as_html(self.engine)
