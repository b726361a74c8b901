"""Many lesions of one model on the same inputs, each computed only from where it changes anything.

Deleting branch i leaves everything before it as it was: an intact pass stores what the lesions read of that, and
each lesion starts there. What does not fit into memory is stored and used group by group.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

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
from thruway.dissecting.tracing.model_state import RandomStates, restored_buffers
from thruway.dissecting.tracing.tape import Tape
from thruway.dissecting.tracing.unfused import UNFUSED, unfused

__all__ = ["INTACT", "MEMORY", "Lesion", "LesionRunner", "evaluation_mode", "run_permuted"]

INTACT = -1

# Bytes of the intact pass that a sweep keeps by default.
MEMORY = 2**30


@dataclass(frozen=True)
class Lesion:
    """Joins that are changed (None leaves the branch out), and branches that stand in each other's places."""

    merges: Mapping[int, Merge | None] = field(default_factory=dict)
    swaps: Callable[[Tape, Discovery], WeightSwaps] | None = None

    def swaps_on(self, tape: Tape, found: Discovery) -> WeightSwaps:
        """The weights that take another's place on this tape."""
        return {} if self.swaps is None else self.swaps(tape, found)


class LesionRunner:
    """Lesions to be run on one batch after the other.

    Args:
        engine: of the model.
        lesions: any number.
        memory: bytes of the intact pass to keep at a time; 0 starts every lesion at the input.
    """

    def __init__(self, engine: Engine, lesions: Sequence[Lesion], memory: int = MEMORY) -> None:
        self._engine = engine
        self._lesions = lesions
        self._memory = memory
        # Looked for once: a deep model has more modules than a small pass has microseconds.
        self._has_closed = any(type(module) in UNFUSED for module in engine.model.modules())
        self._planned: dict[int, tuple[Tape, list[PartialPlan], list[list[int]]]] = {}

    def outputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[int, Any]]:
        """What the intact model gives, as number INTACT, then what each lesion gives, in any order.

        A model that draws random numbers draws the same ones for every lesion.

        Raises:
            DissectError: if the model's code takes another way once a branch is missing.
        """
        tape, found = self._engine.traced(args, kwargs)
        plans, groups = self._plans(tape, found)
        model = self._engine.model
        drawn = RandomStates(model) if tape.draws_random else None
        first, *others = groups or [[]]
        try:
            output, stored = self._store(tape, _needed(plans, first), args, kwargs) if first else (None, {})
        except TapeMismatchError:
            # This batch goes another way than the recorded one of its form: every pass looks for itself.
            first, others, stored = [], [], {}
        if not first:
            with self._opened():  # as for the lesions, so that they differ by nothing else
                output = self._engine.run({}, args, kwargs)
        after = RandomStates(model) if tape.draws_random else None
        yield INTACT, output
        del output
        alone = set(range(len(plans)))
        for group in (first, *others):
            if group is not first:
                _, stored = self._store(tape, _needed(plans, group), args, kwargs)
            for index in group:
                try:
                    with self._opened():
                        result = run_partial(model, plans[index], stored, args, kwargs)
                except TapeMismatchError:
                    continue  # the whole pass knows better, or says what is wrong
                alone.discard(index)
                yield index, result
            stored = {}
        for index in sorted(alone):
            if drawn is not None:
                drawn.restore()
            yield index, self._whole(index, args, kwargs)
        if after is not None:
            after.restore()

    def _opened(self) -> contextlib.AbstractContextManager[None]:
        return unfused(self._engine.model) if self._has_closed else contextlib.nullcontext()

    def _store(self, tape: Tape, wanted: frozenset[int], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with self._opened():
            return run_and_store(self._engine.model, tape, wanted, args, kwargs)

    def _whole(self, index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
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
    """One whole pass of a model with branches in each other's places.

    Raises:
        DissectError: if the model's code takes another way with these inputs.
        ConfigError: if on these inputs the branches cannot take each other's places.
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
    """Neighbours that share one store, as many as fit; those that fit nowhere are in no group."""
    groups: list[list[int]] = []
    held: frozenset[int] = frozenset()
    for index, plan in enumerate(plans):
        if plan.obstacle or bytes_of(facts, plan.needed) > memory:
            continue
        together = held | plan.needed
        if not groups or bytes_of(facts, together) > memory:
            groups.append([])
            together = plan.needed
        groups[-1].append(index)
        held = together
    # The first store comes with the intact pass; another one costs a whole pass, and for one lesion saves less.
    return [group for place, group in enumerate(groups) if place == 0 or len(group) > 1]


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """For the block the model is in evaluation mode, without gradients; afterwards all is as it was.

    Modes, buffers and random numbers are put back, also when the block raises.
    """
    modes = [(module, module.training) for module in model.modules()]
    randomness = RandomStates(model)
    try:
        with torch.no_grad(), restored_buffers(model):
            model.eval()
            yield
    finally:
        for module, was_training in modes:
            module.training = was_training
        randomness.restore()
