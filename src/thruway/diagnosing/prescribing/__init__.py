"""Trial of cures: every suggested change, no change and a placebo on the same seeds and batches."""

from thruway.diagnosing.prescribing.applications import APPLICATIONS
from thruway.diagnosing.prescribing.applying import Application, Case, Changed, NotApplicableError
from thruway.diagnosing.prescribing.facts import Facts
from thruway.diagnosing.prescribing.prescribe import prescribe
from thruway.diagnosing.prescribing.prescription import Prescription
from thruway.diagnosing.prescribing.setup import Setup
from thruway.diagnosing.prescribing.trial import Trial

__all__ = [
    "APPLICATIONS",
    "Application",
    "Case",
    "Changed",
    "Facts",
    "NotApplicableError",
    "Prescription",
    "Setup",
    "Trial",
    "prescribe",
]
