"""Runs of many lesions on the same inputs, each computed only from the first call that it changes.

Deleting branch i changes nothing before it. An intact pass stores the values that the lesions read, and each lesion
starts from these. If these values do not fit into memory, they are stored and used group by group.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from thruway.dissecting.errors import TapeMismatchError
from thruway.dissecting.finding.discovery import Discovery
from thruway.dissecting.running.engine import Engine
from thruway.dissecting.running.merging import Merge
from thruway.dissecting.running.partial_pass import run_partial
from thruway.dissecting.running.partial_plan import (
    PartialPlan,
    TapeFacts,
    WeightSwaps,
    bytes_of,
    plan_all_calls,
    plan_partial,
)
from thruway.dissecting.running.stored_pass import run_and_store
from thruway.dissecting.tracing.model_state import RandomStates
from thruway.dissecting.tracing.tape import Tape
from thruway.dissecting.tracing.unfused import UNFUSED, unfused

__all__ = ["INTACT", "MEMORY", "Lesion", "LesionRunner", "run_permuted"]

INTACT = -1

# Bytes of the intact pass that are stored by default.
MEMORY = 2**30


@dataclass(frozen=True)
class Lesion:
    """A change of a model.

    Attributes:
        merges: for each index of a branch, its merge function, or None to leave the branch out.
        swaps: function that returns the swapped weights for a tape and the branches on it. None if no branches are
            swapped.
    """

    merges: Mapping[int, Merge | None] = field(default_factory=dict)
    swaps: Callable[[Tape, Discovery], WeightSwaps] | None = None

    def swaps_on(self, tape: Tape, found: Discovery) -> WeightSwaps:
        """The swapped weights on this tape."""
        return {} if self.swaps is None else self.swaps(tape, found)


class LesionRunner:
    """Runs a list of lesions on one batch after another.

    Args:
        engine: engine that runs the model.
        lesions: the lesions to run.
        memory: maximum number of bytes of the intact pass to store at a time. If 0, every lesion starts at the input.
    """

    def __init__(self, engine: Engine, lesions: Sequence[Lesion], memory: int = MEMORY) -> None:
        self._engine = engine
        self._lesions = lesions
        self._memory = memory
        # Searched once, since a search through a deep model takes as long as a small pass.
        self._has_fused = any(type(module) in UNFUSED for module in engine.model.modules())
        self._planned: dict[int, tuple[Tape, list[PartialPlan], list[list[int]]]] = {}

    def outputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[int, Any]]:
        """Yield the intact output with index INTACT, then the output of each lesion with its index, in any order.

        A model that draws random numbers draws the same ones for every lesion.

        Raises:
            DissectError: if a lesion makes the model call something that is not on its tape.
        """
        tape, found = self._engine.traced(args, kwargs)
        plans, groups = self._plans(tape, found)
        model = self._engine.model
        drawn = RandomStates(model) if tape.draws_random else None
        first, *others = groups or [[]]
        try:
            output, stored = self._store(tape, _needed(plans, first), args, kwargs) if first else (None, {})
        except TapeMismatchError:
            # This batch makes other calls than the recorded one of its form, so every lesion runs in full.
            first, others, stored = [], [], {}
        if not first:
            with self._unfused():  # as for the lesions, so that nothing else differs
                output = self._engine.run({}, args, kwargs)
        after = RandomStates(model) if tape.draws_random else None
        yield INTACT, output
        del output
        remaining = set(range(len(plans)))
        for group in (first, *others):
            if group is not first:
                _, stored = self._store(tape, _needed(plans, group), args, kwargs)
            for index in group:
                try:
                    with self._unfused():
                        result = run_partial(model, plans[index], stored, args, kwargs)
                except TapeMismatchError:
                    continue  # the full pass below finds a tape that fits, or raises
                remaining.discard(index)
                yield index, result
            stored = {}
        for index in sorted(remaining):
            if drawn is not None:
                drawn.restore()
            yield index, self._run_full(index, args, kwargs)
        if after is not None:
            after.restore()

    def _unfused(self) -> contextlib.AbstractContextManager[None]:
        return unfused(self._engine.model) if self._has_fused else contextlib.nullcontext()

    def _store(self, tape: Tape, wanted: frozenset[int], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with self._unfused():
            return run_and_store(self._engine.model, tape, wanted, args, kwargs)

    def _run_full(self, index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        lesion = self._lesions[index]
        if lesion.swaps is None:
            return self._engine.run(lesion.merges, args, kwargs)
        return run_permuted(self._engine, lesion, args, kwargs)

    def _plans(self, tape: Tape, found: Discovery) -> tuple[list[PartialPlan], list[list[int]]]:
        if id(tape) not in self._planned:
            facts = TapeFacts(tape)
            plans = [
                plan_partial(facts, _joins(found, lesion), lesion.swaps_on(tape, found)) for lesion in self._lesions
            ]
            self._planned[id(tape)] = tape, plans, _grouped(facts, plans, self._memory)
        return self._planned[id(tape)][1:]


def run_permuted(engine: Engine, lesion: Lesion, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run one full pass of a model with swapped branches.

    Raises:
        DissectError: if the model makes other calls with these inputs than the recorded pass.
        ConfigError: if the branches cannot be swapped on these inputs.
    """

    def follow(tape: Tape, found: Discovery) -> Any:
        plan = plan_all_calls(tape, _joins(found, lesion), lesion.swaps_on(tape, found))
        with unfused(engine.model):
            return run_partial(engine.model, plan, {}, args, kwargs)

    return engine.follow(follow, args, kwargs)


def _joins(found: Discovery, lesion: Lesion) -> list[Any]:
    return [(found.branches[index], merge) for index, merge in lesion.merges.items()]


def _needed(plans: Sequence[PartialPlan], group: Sequence[int]) -> frozenset[int]:
    return frozenset[int]().union(*(plans[index].needed for index in group))


def _grouped(facts: TapeFacts, plans: Sequence[PartialPlan], memory: int) -> list[list[int]]:
    """Group consecutive plans whose stored values fit into memory together. Plans that do not fit are omitted."""
    groups: list[list[int]] = []
    stored: frozenset[int] = frozenset()
    for index, plan in enumerate(plans):
        if plan.obstacle or bytes_of(facts, plan.needed) > memory:
            continue
        together = stored | plan.needed
        if not groups or bytes_of(facts, together) > memory:
            groups.append([])
            together = plan.needed
        groups[-1].append(index)
        stored = together
    # The first group is stored during the intact pass. Another costs one more pass, more than it saves for one lesion.
    return [group for place, group in enumerate(groups) if place == 0 or len(group) > 1]
