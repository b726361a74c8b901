"""The table of cures that `prescribe` can apply. To add one, write a function of (setup, case) and an entry."""

from collections.abc import Collection, Iterator, Sequence

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Cure, Finding
from thruway.diagnosing.prescribing.applying import Application
from thruway.diagnosing.prescribing.cures_of_modules import MODULES
from thruway.diagnosing.prescribing.cures_of_numbers import NUMBERS
from thruway.diagnosing.prescribing.cures_of_weights import WEIGHTS
from thruway.diagnosing.rules.advice import ADVICE

__all__ = ["APPLICATIONS", "placebos", "suggested"]

APPLICATIONS: dict[str, Application] = {row.name: row for row in (*WEIGHTS, *MODULES, *NUMBERS)}

# Order in which a placebo is looked for: changes that leave a healthy run nearly as it was.
_PLACEBOS = ("clip", "reset_bias", "scale_input", "lower_lr")


def suggested(findings: Sequence[Finding]) -> list[Cure]:
    """Return the cures of the findings and of their effects, each once, causes first, without advice.

    Advice is a change of the user's code that no trial can make.
    """

    def walk(findings: Sequence[Finding]) -> Iterator[Cure]:
        for finding in findings:
            yield from (cure for cure in finding.cures if cure.name not in ADVICE)
        for finding in findings:
            yield from walk(finding.effects)

    return list({cure.name: cure for cure in reversed(list(walk(findings)))}.values())[::-1]


def placebos(names: Collection[str]) -> list[Cure]:
    """Return cures of other families than those of `names`, the most harmless first."""
    families = {APPLICATIONS[name].family for name in names if name in APPLICATIONS}
    return [CURES[name] for name in _PLACEBOS if APPLICATIONS[name].family not in families]
