"""The figure of a finding, by name: `Diagnosis.figure`."""

import plotly.graph_objects as go

from thruway.diagnosing.finding import Finding
from thruway.diagnosing.pictures.table import pictures_of
from thruway.diagnosing.readable import ReadableDiagnosis
from thruway.diagnosing.reading import Reading
from thruway.errors import ConfigError, unknown_name

__all__ = ["finding_figure"]


def finding_figure(diagnosis: ReadableDiagnosis, which: Finding | int, picture: str | None) -> go.Figure:
    """Return a figure of a finding; see `Diagnosis.figure`."""
    finding = which
    if isinstance(which, int):
        if not -len(diagnosis.findings) <= which < len(diagnosis.findings):
            raise ConfigError(
                f"there is no finding {which}: the diagnosis has {len(diagnosis.findings)}. Pass 0 for the first."
            )
        finding = diagnosis.findings[which]
    if not isinstance(finding, Finding):
        raise ConfigError(f"figure takes a Finding or a number, got {type(which).__name__}.")
    found = {each.name: each.figure for each in pictures_of(Reading(diagnosis.trace, diagnosis.losses), finding)}
    if picture is None and found:
        return next(iter(found.values()))
    if picture not in found:
        raise ConfigError(unknown_name("picture of this finding", picture, found))
    return found[picture]
