"""A corpus of small labelled training runs, with labels that are measured in float64."""

from tests.corpus import (
    cnn_cases,
    generative_cases,
    mlp_cases,
    mlp_healthy,
    published_cases,
    recurrent_cases,
    skip_cases,
    transformer_cases,
)
from tests.corpus.case import HELD_OUT_SEEDS, SYMPTOMS, TUNING_SEEDS, Case
from tests.corpus.running import run

TABLES = (
    mlp_cases,
    mlp_healthy,
    skip_cases,
    cnn_cases,
    recurrent_cases,
    transformer_cases,
    generative_cases,
    published_cases,
)
CASES: dict[str, Case] = {case.name: case for module in TABLES for case in module.CASES}

__all__ = ["CASES", "HELD_OUT_SEEDS", "SYMPTOMS", "TABLES", "TUNING_SEEDS", "Case", "run"]
