"""What was found out about one model: the results of `thruway.dissecting`, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from thruway.dissecting import Deletions, Dissection, DrawnLesions
from thruway.dissecting.paths.lengths import PathLengths
from thruway.dissecting.paths.results import PathGradients, SampledPaths
from thruway.dissecting.ranking.rankings import Rankings

__all__ = ["RANKINGS", "DissectionFindings"]

# How rankings are called in a table and in a sentence.
RANKINGS = {
    "predicted": "first-order prediction",
    "curved": "second-order prediction",
    "influence": "Block Influence (1 - cos)",
    "angle": "angular distance",
    "ratio": "|f| / |x|",
    "norm": "|f|",
}


@dataclass(frozen=True, eq=False)
class DissectionFindings:
    """A dissection and whatever was measured on it; what was not is None.

    Attributes:
        dissection: of the model.
        name: of the model, for a heading.
        about: what it is, in a line.
        example: what was sent through it to find its branches, in words.
        data: on what it was measured, in words; "" if on nothing.
        units: of each metric, by its name.
        paths: how many there are of each length; None without shortcuts.
        deletions: each branch left out, by one metric after the other; figures show the first.
        drawn: random branches left out together, by the first metric.
        reordered: branches in another order, by the first metric.
        rankings: what is said of each branch without deleting it, and by deletion.
        rankings_agree_with: what the measured column of `rankings` is, in words.
        gradients: exactly, by path length.
        sampled: along single random paths, as published.
        path_loss: of which the gradients are, in words.
        path_unit: of those gradients' norms.
        notes: what was not measured, and why.
        provenance: how it was made, as on every page.
    """

    dissection: Dissection
    name: str
    about: str
    example: str
    data: str = ""
    units: Mapping[str, str] = field(default_factory=dict)
    paths: PathLengths | None = None
    deletions: tuple[Deletions, ...] = ()
    drawn: DrawnLesions | None = None
    reordered: DrawnLesions | None = None
    rankings: Rankings | None = None
    rankings_agree_with: str = ""
    gradients: PathGradients | None = None
    sampled: SampledPaths | None = None
    path_loss: str = ""
    path_unit: str = ""
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, str | Sequence[str]] = field(default_factory=dict)

    @property
    def is_measured(self) -> bool:
        """Whether there was data."""
        return bool(self.deletions)
