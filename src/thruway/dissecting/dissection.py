"""Opening a model up: its branches found, and the model itself run without some of them."""

import contextlib
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import torch
from torch import nn

from thruway.dissecting.drawing import draw
from thruway.dissecting.errors import DetourError, DissectError
from thruway.dissecting.finding.branches import Branch, Refusal
from thruway.dissecting.finding.discovery import Discovery, discover
from thruway.dissecting.lesions import deletions, permutations
from thruway.dissecting.lesions.metrics import Evaluate
from thruway.dissecting.lesions.results import DrawnLesions
from thruway.dissecting.paths.gradients import path_gradients as _path_gradients
from thruway.dissecting.paths.lengths import path_lengths as _path_lengths
from thruway.dissecting.paths.lengths import path_survival as _path_survival
from thruway.dissecting.paths.sampling import sampled_paths as _sampled_paths
from thruway.dissecting.paths.training import effective_depth as _effective_depth
from thruway.dissecting.paths.training import effective_depth_over_training as _effective_depth_over_training
from thruway.dissecting.ranking.influence import Per
from thruway.dissecting.ranking.predictions import Predictions, predict_deletions
from thruway.dissecting.ranking.rankings import Rankings, rankings
from thruway.dissecting.running.full_pass import Merge, Route, route, run_along
from thruway.dissecting.running.join_hooks import Whole
from thruway.dissecting.running.lesioned import Lesioned
from thruway.dissecting.summary import in_html, in_text, in_words
from thruway.dissecting.tracing.arguments import as_call, check_model, signature
from thruway.dissecting.tracing.model_state import Randomness, kept_buffers
from thruway.dissecting.tracing.recording import record
from thruway.dissecting.tracing.tape import Tape
from thruway.errors import ConfigError, unknown_name

__all__ = ["Dissection", "dissect"]

# Tapes kept, one for each form of input met; a text model sees many lengths.
_TAPES = 64

Which = int | str | Branch
Merges = Mapping[int, Merge | None] | Callable[[Tape, Sequence[Branch]], Sequence[tuple[Branch, Merge | None]]]


def dissect(
    model: nn.Module, example_inputs: Any, *, declare: Iterable[str] = (), ignore: Iterable[str] = ()
) -> "Dissection":
    """Find the residual branches and gated blends of a model, and run it without any of them.

    The model runs once, as it is, on the example; its class need not be known. It is neither changed nor
    copied: weights that change later are those that later passes use. A net without shortcuts is
    dissected layer by layer.

    Args:
        model: any eager module, in the mode in which it is to be studied: mostly after `model.eval()`.
        example_inputs: a tensor, a tuple of arguments, or a dict of keywords, with a batch as small as you like.
            For a language model, say `use_cache=False`: what is kept of a branch for later cannot be skipped.
        declare: paths of modules whose output minus input is a branch, though nothing in them says so.
        ignore: paths of modules, or names of branches, that are not to be touched.
    Returns:
        The dissection: `branches`, `refused`, `without(...)`, `merged(...)`.
    Raises:
        ConfigError: for something that is no eager module, or paths that do not exist.
        DissectError: if a declared module changes the shape of its input, or computes nothing of it.
    Source:
        Veit, Wilber & Belongie 2016, sec. 3-4 (what a branch is, and its lesion). Finding them is ours.

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


class Dissection:
    """A model opened up; `dissect` makes one.

    Attributes:
        model: the model, as it came.
        branches: what was found, in the order in which they join.
        refused: adds, blends and layers that are no branches, each with the reason.
        tape: the pass they were found on.
    """

    def __init__(
        self, model: nn.Module, example_inputs: Any, *, declare: Iterable[str] = (), ignore: Iterable[str] = ()
    ) -> None:
        check_model(model)
        self.model = model
        self.example_inputs = example_inputs
        self._declare, self._ignore = tuple(declare), tuple(ignore)
        self._readings: OrderedDict[Any, tuple[Tape, Discovery]] = OrderedDict()
        args, kwargs = as_call(example_inputs)
        self.tape, found = self._read(args, kwargs)
        self.branches: tuple[Branch, ...] = found.branches
        self.refused: tuple[Refusal, ...] = found.refused

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The intact model, called as it always is: nothing listens."""
        return self.model(*args, **kwargs)

    def without(self, *which: Which | Iterable[Which]) -> Lesioned:
        """The model with these branches left out, by index, name or Branch: y = x there.

        A gated block is left out by T = 0, which carries x on; of a projection block the projection remains.
        What only these branches need is not computed. Call it as you would the model, also with other batch sizes.

        Raises:
            ConfigError: for a branch that does not exist.

        >>> import torch
        >>> net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        >>> d = dissect(net, torch.ones(1, 3))
        >>> torch.equal(d.without("0")(torch.ones(2, 3)), net[1](torch.ones(2, 3)))
        True
        """
        return Lesioned(self, {branch.index: None for branch in self._chosen(which)})

    def merged(self, merges: Mapping[Which, Merge | None]) -> Lesioned:
        """The model with joins of your own: each function gets the Operands and returns what the join gives.

        None leaves the branch out. The function runs at every pass, with gradients where the pass has them.

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
        return Lesioned(self, {self._chosen([which])[0].index: merge for which, merge in merges.items()})

    def predict_deletions(self, loss: Any, batches: Any = None) -> Predictions:
        """Every single deletion to first order, from one forward and one backward pass; see `predict_deletions`."""
        return predict_deletions(self, loss, batches)

    def rankings(self, batches: Any = None, *, loss: Any = None, measured: Any = None, per: Per = "auto") -> Rankings:
        """Block Influence, angular distance, norms, and what deletion does, beside each other; see `rankings`."""
        return rankings(self, batches, loss=loss, measured=measured, per=per)

    # Functions of modules of their own, which take the dissection first.
    delete_each = deletions.delete_each
    path_lengths = _path_lengths
    path_survival = _path_survival
    path_gradients = _path_gradients
    sampled_paths = _sampled_paths
    effective_depth = _effective_depth
    over_training = _effective_depth_over_training

    def draw(self, *, unravelled: bool = False) -> go.Figure:
        """The net as a stream with its branches, or as all its paths; see `draw`."""
        return draw(self, unravelled=unravelled)

    def summary(self) -> str:
        """A table of all branches, and what was refused."""
        return in_text(self)

    def __repr__(self) -> str:
        return in_words(self)

    def _repr_html_(self) -> str:
        return in_html(self)

    def _chosen(self, which: Sequence[Any]) -> list[Branch]:
        chosen: list[Branch] = []
        for each in which:
            if isinstance(each, Branch):
                each = each.index
            if isinstance(each, str):
                names = [branch.name for branch in self.branches]
                if each not in names:
                    raise ConfigError(unknown_name("branch", each, names))
                chosen.append(self.branches[names.index(each)])
            elif isinstance(each, int) and not isinstance(each, bool):
                if not -len(self.branches) <= each < len(self.branches):
                    raise ConfigError(
                        f"{type(self.model).__name__} has {len(self.branches)} branches, counted from 0, got {each}."
                    )
                chosen.append(self.branches[each])
            elif isinstance(each, Iterable):
                chosen += self._chosen(list(each))
            else:
                raise ConfigError(f"a branch is named by index, name or Branch, got {each!r}. See summary().")
        return chosen

    # --- lesions

    def delete(
        self, k: int | Iterable[int], draws: int, evaluate: Evaluate, generator: torch.Generator, **settings: Any
    ) -> DrawnLesions:
        """The metric without k random branches, `draws` times; see `deletions.delete`."""
        return deletions.delete(self, k, draws, evaluate, generator=generator, **settings)

    def swap(self, first: Which, second: Which) -> Lesioned:
        """The model with two branches in each other's places; see `permutations.swap`."""
        return permutations.swap(self, first, second)

    def permute(self, order: Sequence[int]) -> Lesioned:
        """The model with its branches in another order; see `permutations.permute`."""
        return permutations.permute(self, order)

    def permute_pairs(
        self, k: int | Iterable[int], draws: int, evaluate: Evaluate, generator: torch.Generator, **settings: Any
    ) -> DrawnLesions:
        """The metric after k random swaps, `draws` times; see `permutations.permute_pairs`."""
        return permutations.permute_pairs(self, k, draws, evaluate, generator=generator, **settings)

    # --- passes

    def reading(self, args: tuple[Any, ...], kwargs: dict[str, Any], anew: bool = False) -> tuple[Tape, Discovery]:
        """The tape for arguments of this form, in the model's present mode, and the branches on it."""
        key = signature(self.model, args, kwargs)
        return self._read(args, kwargs) if anew or key not in self._readings else self._readings[key]

    def run(self, merges: Merges, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One pass on these arguments with these joins, by index of the branch; None leaves it out.

        `merges` may be a function that says which, given the tape to be followed and the branches on it.

        Raises:
            DissectError: if the model's code takes another way with these inputs than it took when it
                was looked at with them: no number is given then.
        """
        key = signature(self.model, args, kwargs)
        is_new = key not in self._readings
        tape, found = self._read(args, kwargs) if is_new else self._readings[key]
        self._readings.move_to_end(key)
        try:
            return self._run(tape, found, merges, args, kwargs)
        except DetourError:
            if is_new:
                raise
        # What decided the way may lie in the data, or in what an earlier pass left behind: look again, with these.
        tape, found = self._read(args, kwargs)
        return self._run(tape, found, merges, args, kwargs)

    def _run(
        self,
        tape: Tape,
        found: Discovery,
        merges: Merges,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        way = self._way(tape, found, merges)
        randomness = Randomness(self.model) if tape.draws else None
        with kept_buffers(self.model) if tape.writes_state else contextlib.nullcontext():
            try:
                return run_along(self.model, way, args, kwargs)
            except DetourError:
                if randomness is not None:
                    randomness.restore()
                raise

    def _way(self, tape: Tape, found: Discovery, merges: Merges) -> Route:
        if callable(merges):
            return route(tape, merges(tape, found.branches))
        pairs = [(found.branches[index], merge) for index, merge in merges.items()]
        return route(tape, [(Whole.seen(b) if isinstance(merge, Whole) else b, merge) for b, merge in pairs])

    def _read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tape, Discovery]:
        tape = record(self.model, args, kwargs)
        found = discover(tape, self._declare, self._ignore)
        if hasattr(self, "branches"):
            self._check_same(found)
        self._readings[signature(self.model, args, kwargs)] = tape, found
        if len(self._readings) > _TAPES:
            self._readings.popitem(last=False)
        return tape, found

    def _check_same(self, found: Discovery) -> None:
        """Refuse inputs with which the model is another one: indices would mean other branches."""
        pairs = itertools.zip_longest(self.branches, found.branches)
        for index, (ours, theirs) in enumerate(pairs):
            if ours is None or theirs is None or (ours.name, ours.kind) != (theirs.name, theirs.kind):
                was, now = (f"{b.name} ({b.kind})" if b is not None else "missing" for b in (ours, theirs))
                raise DissectError(
                    f"with these inputs, or in this mode, {type(self.model).__name__} has other branches: number "
                    f"{index} was {was} and is {now}. Dissect it anew with inputs of this form, in this mode."
                )
