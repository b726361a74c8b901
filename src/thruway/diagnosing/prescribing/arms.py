"""Arms of a trial: the suggested cures, no change, and a placebo, each with a function that builds its setups."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from thruway.diagnosing.finding import Cure, Finding
from thruway.diagnosing.prescribing.applications import APPLICATIONS, placebos, suggested
from thruway.diagnosing.prescribing.applying import Case, Changed, NotApplicableError
from thruway.diagnosing.prescribing.changes import tree_diff
from thruway.diagnosing.prescribing.facts import Facts, read_facts
from thruway.diagnosing.prescribing.setup import Build, Setup, build_setup, scaled, seeded
from thruway.diagnosing.prescribing.trial import Arm
from thruway.errors import ConfigError
from thruway.watching.modules import call_model

__all__ = ["TrialArm", "Workshop", "arms_of"]

_NO_CHANGE = Cure("no_change", "no change")


@dataclass(frozen=True)
class TrialArm:
    """One arm.

    Attributes:
        cure: the change.
        arm: "cure", "placebo" or "no change".
        reason: why it cannot be applied; "" if it can.
        spare: a setup of the first seed, for the new diagnosis; None if it cannot be applied.
        code: the change as code for the training script.
        diff: diff of the module tree.
    """

    cure: Cure
    arm: Arm
    reason: str = ""
    spare: Setup | None = None
    code: str = ""
    diff: str = ""


@dataclass
class Workshop:
    """The user's function, batches and loss, from which the setups of all arms are made.

    Attributes:
        build: the user's function.
        takes_seed: True if it takes a seed.
        batches: the training batches.
        loss: function of (outputs, targets).
        zero_grad: False if the findings say that gradients accumulate: the unchanged loop does not zero them.
        seeds: seeds of the runs.
    """

    build: Build
    takes_seed: bool
    batches: Sequence[tuple[Any, Any]]
    loss: Callable[[Any, Any], Tensor]
    zero_grad: bool
    seeds: Sequence[int]
    reference: nn.Module = field(init=False)  # an unchanged model
    facts: Facts = field(init=False)

    def __post_init__(self) -> None:
        setup, other = self._fresh(self.seeds[0]), self._fresh(self.seeds[0])
        if {id(p) for p in setup.model.parameters()} & {id(p) for p in other.model.parameters()}:
            raise ConfigError(
                "build must return a new model in every call, but two calls returned models with the same parameters. "
                "Build the model inside of the function."
            )
        self.reference = setup.model
        try:
            with seeded(0, "facts"):
                self.facts = read_facts(other.model, self.batches[0][0])
        except Exception as error:
            raise ConfigError(
                f"the model does not run on the inputs of the first batch: {_first_line(error)}. Tensors and dicts of "
                "keyword arguments are passed as such, tuples as positional arguments."
            ) from error

    def setup(self, cure: Cure, arm: Arm, seed: int) -> Changed:
        """Return a new setup of an arm.

        Raises:
            NotApplicableError: if the cure does not fit the model.
        """
        fresh = self._fresh(seed)
        if arm == "no change":
            return Changed(fresh, "")
        if cure.name not in APPLICATIONS:
            raise NotApplicableError("this cure is not in the table of cures that can be tried")
        with seeded(seed, "cure"):
            return APPLICATIONS[cure.name].apply(fresh, Case(self.facts, self.batches, seed))

    def arm(self, cure: Cure, arm: Arm) -> TrialArm:
        """Return an arm, after a trial of its forward pass and loss on the first batch."""
        try:
            changed = self.setup(cure, arm, self.seeds[0])
            self._try(changed.setup)
        except NotApplicableError as error:
            return TrialArm(cure, arm, str(error))
        except Exception as error:
            if arm == "no change":
                raise ConfigError(
                    f"the loss of the first batch cannot be computed: {_first_line(error)}. loss is called with "
                    "(model(inputs), targets) and must return a scalar."
                ) from error
            return TrialArm(cure, arm, f"the changed model fails: {_first_line(error)}")
        return TrialArm(cure, arm, "", changed.setup, changed.code, tree_diff(self.reference, changed.setup.model))

    def _try(self, setup: Setup) -> None:
        inputs, targets = self.batches[0] if setup.scaling is None else scaled(self.batches[0], setup.scaling)
        with torch.no_grad(), seeded(0, "trial"):
            value = self.loss(call_model(setup.model, inputs), targets)
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(f"loss must return a tensor with one element, got {got}")

    def _fresh(self, seed: int) -> Setup:
        return build_setup(self.build, self.takes_seed, seed, zero_grad=self.zero_grad)


def arms_of(workshop: Workshop, findings: Sequence[Finding]) -> list[TrialArm]:
    """Return no change, the suggested cures, and the first placebo that can be applied."""
    cures = suggested(findings)
    arms = [workshop.arm(_NO_CHANGE, "no change"), *(workshop.arm(cure, "cure") for cure in cures)]
    for cure in placebos({cure.name for cure in cures}):
        placebo = workshop.arm(cure, "placebo")
        if not placebo.reason:
            return [*arms, placebo]
    return arms


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
