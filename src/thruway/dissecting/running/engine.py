"""The engine of a dissection: the tapes of one model, the branches on them, and passes with changed joins."""

import contextlib
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from thruway.dissecting.errors import DissectError, TapeMismatchError
from thruway.dissecting.finding.branches import Branch, Refusal
from thruway.dissecting.finding.discovery import Discovery, discover
from thruway.dissecting.running.full_pass import FullPlan, plan_full, run_full
from thruway.dissecting.running.merging import Merge, ObservedJoin
from thruway.dissecting.tracing.arguments import as_call, call_signature, check_model
from thruway.dissecting.tracing.model_state import RandomStates, restored_buffers
from thruway.dissecting.tracing.recording import record
from thruway.dissecting.tracing.tape import Tape
from thruway.errors import ConfigError, unknown_name

__all__ = ["Engine", "Merges", "Which"]

# Tapes kept, one for each form of the arguments. A language model sees many sequence lengths.
_TAPES = 64

# A branch by its index, its name, or itself.
Which = int | str | Branch

# Merge functions by index of the branch, or a function that gives them for a tape and the branches on it.
Merges = Mapping[int, Merge | None] | Callable[[Tape, Sequence[Branch]], Sequence[tuple[Branch, Merge | None]]]


class Engine:
    """A model with its recorded tapes. Every analysis runs the model through an engine.

    Args:
        model: any eager module.
        example_inputs: a tensor, a tuple of arguments, or a dict of keyword arguments.
        declare: paths of modules whose output minus input is a branch.
        ignore: paths of modules in which nothing is a branch, or names of branches.

    Attributes:
        model: the model, unchanged.
        example_inputs: the example inputs.
        tape: the recorded pass on the example inputs.
        branches: the branches on that tape, in the order of their joins.
        refused: candidates that were rejected, each with the reason.
    """

    def __init__(
        self, model: nn.Module, example_inputs: Any, declare: Iterable[str] = (), ignore: Iterable[str] = ()
    ) -> None:
        check_model(model)
        self.model = model
        self.example_inputs = example_inputs
        self._declare, self._ignore = tuple(declare), tuple(ignore)
        self._traced: OrderedDict[Any, tuple[Tape, Discovery]] = OrderedDict()
        args, kwargs = as_call(example_inputs)
        self.tape, found = self._trace(args, kwargs)
        self.branches: tuple[Branch, ...] = found.branches
        self.refused: tuple[Refusal, ...] = found.refused

    def select(self, which: Iterable[Any]) -> list[Branch]:
        """Return the branches given by index, name, Branch, or iterables of these.

        Raises:
            ConfigError: for a branch that does not exist.
        """
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
                chosen += self.select(list(each))
            else:
                raise ConfigError(f"a branch must be given as index, name or Branch, got {each!r}. See summary().")
        return chosen

    def traced(self, args: tuple[Any, ...], kwargs: dict[str, Any], refresh: bool = False) -> tuple[Tape, Discovery]:
        """Return the tape for arguments of this form in the model's current mode, and the branches on it.

        Args:
            refresh: If True, the pass is recorded again even if there is a tape for arguments of this form.
        """
        key = call_signature(self.model, args, kwargs)
        return self._trace(args, kwargs) if refresh or key not in self._traced else self._traced[key]

    def run(self, merges: Merges, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one pass on these arguments with these joins.

        Args:
            merges: for each index of a branch, a merge function, or None to leave the branch out. It may be a function
                that returns pairs (branch, merge) for the tape in use and the branches on it.
        Raises:
            DissectError: if the model makes other calls than on the tape recorded with these arguments. No output
                is returned then.
        """

        def follow(tape: Tape, found: Discovery) -> Any:
            return run_full(self.model, _plan(tape, found, merges), args, kwargs)

        return self.follow(follow, args, kwargs)

    def follow(self, run_pass: Callable[[Tape, Discovery], Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call `run_pass` with the tape for these arguments; with a fresh tape if the pass leaves the first one.

        Buffers that the model writes to are restored afterwards, and random states before a second try.

        Raises:
            DissectError: if the pass leaves a tape that was recorded right before it, with these very arguments.
        """
        key = call_signature(self.model, args, kwargs)
        tape, found = self._traced[key] if key in self._traced else self._trace(args, kwargs)
        self._traced.move_to_end(key)
        try:
            return self._guarded(run_pass, tape, found)
        except TapeMismatchError:
            # The calls may depend on the data, or on a cache that an earlier pass filled, even that of a new tape.
            tape, found = self._trace(args, kwargs)
        return self._guarded(run_pass, tape, found)

    def _guarded(self, run_pass: Callable[[Tape, Discovery], Any], tape: Tape, found: Discovery) -> Any:
        randomness = RandomStates(self.model) if tape.draws_random else None
        with restored_buffers(self.model) if tape.writes_state else contextlib.nullcontext():
            try:
                return run_pass(tape, found)
            except TapeMismatchError:
                if randomness is not None:
                    randomness.restore()
                raise

    def _trace(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tape, Discovery]:
        tape = record(self.model, args, kwargs)
        found = discover(tape, self._declare, self._ignore)
        if hasattr(self, "branches"):
            self._check_same(found)
        self._traced[call_signature(self.model, args, kwargs)] = tape, found
        if len(self._traced) > _TAPES:
            self._traced.popitem(last=False)
        return tape, found

    def _check_same(self, found: Discovery) -> None:
        """Raise an error for arguments with which the model has other branches, since the indices would differ."""
        pairs = itertools.zip_longest(self.branches, found.branches)
        for index, (ours, theirs) in enumerate(pairs):
            if ours is None or theirs is None or (ours.name, ours.kind) != (theirs.name, theirs.kind):
                was, now = (f"{b.name} ({b.kind})" if b is not None else "missing" for b in (ours, theirs))
                raise DissectError(
                    f"with these inputs, or in this mode, {type(self.model).__name__} has other branches: number "
                    f"{index} was {was} and is {now}. Dissect it again with inputs of this form, in this mode."
                )


def _plan(tape: Tape, found: Discovery, merges: Merges) -> FullPlan:
    if callable(merges):
        return plan_full(tape, merges(tape, found.branches))
    pairs = [(found.branches[index], merge) for index, merge in merges.items()]
    return plan_full(tape, [(ObservedJoin.as_module(b) if isinstance(m, ObservedJoin) else b, m) for b, m in pairs])
