"""A corpus of small labelled training runs, with labels that are measured in float64."""

from tests.corpus import mlp_cases
from tests.corpus.case import HELD_OUT_SEEDS, SYMPTOMS, TUNING_SEEDS, Case
from tests.corpus.running import run

CASES: dict[str, Case] = {case.name: case for module in (mlp_cases,) for case in module.CASES}

__all__ = ["CASES", "HELD_OUT_SEEDS", "SYMPTOMS", "TUNING_SEEDS", "Case", "run"]
