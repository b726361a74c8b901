"""The float64 runs of a case that its proof reads, and how a proof fails."""

import functools
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor

from tests.corpus.case import Case, Proof, WrongLabelError
from tests.corpus.measuring import Record, measure


@dataclass
class Evidence:
    """The float64 runs of a case and of its cure, made when they are asked for."""

    case: Case
    seed: int

    @functools.cached_property
    def record(self) -> Record:
        return measure(self.case, self.seed, after=True)

    @functools.cached_property
    def cured(self) -> Record:
        return measure(self.case.cured(), self.seed)


def prove(case: Case, seed: int) -> None:
    """Raise WrongLabelError unless the label of a case is true for a seed."""
    case.proof(Evidence(case, seed))


def true(condition: bool, message: str) -> None:
    if not condition:
        raise WrongLabelError(message)


def all_of(*proofs: Proof) -> Proof:
    def proof(evidence: Evidence) -> None:
        for part in proofs:
            part(evidence)

    return proof


def matching(tensors: dict[str, Tensor], pattern: str) -> list[tuple[str, Tensor]]:
    found = [(name, tensor) for name, tensor in tensors.items() if fnmatchcase(name, pattern)]
    true(bool(found), f"no site matches {pattern}; there are {list(tensors)}")
    return found
