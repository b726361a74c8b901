"""Diagnosis of training runs: which layer is sick, since when, why, and what cures it."""

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.diagnose import diagnose
from thruway.diagnosing.diagnosis import Diagnosis
from thruway.diagnosing.finding import SYMPTOMS, Cure, Evidence, Finding
from thruway.diagnosing.prescribing import Prescription, prescribe
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.table import RULES

__all__ = [
    "CURES",
    "RULES",
    "SYMPTOMS",
    "Cure",
    "Diagnosis",
    "Evidence",
    "Finding",
    "Prescription",
    "Reading",
    "Rule",
    "diagnose",
    "prescribe",
]
