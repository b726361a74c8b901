"""All measurements on one model: the results of `thruway.dissecting` shown in a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from thruway.dissecting import Deletions, Dissection, DrawnLesions
from thruway.dissecting.paths.lengths import PathLengths
from thruway.dissecting.paths.results import PathGradients, SampledPaths
from thruway.dissecting.ranking.rankings import Rankings

__all__ = ["RANKINGS", "DissectionFindings"]

# Names of the rankings in tables and sentences.
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
    """A dissection and the measurements made on it. Measurements that were not made are None.

    Attributes:
        dissection: dissection of the model.
        name: name of the model, for the heading.
        about: one-line description of the model.
        example: description of the input on which the branches were found.
        data: description of the data on which lesions were measured; "" without data.
        units: unit of each metric, by name of the metric.
        paths: number of paths of each length; None if the model has no shortcuts.
        deletions: results of leaving out each branch, one table per metric. Figures show the first metric.
        drawn: results of leaving out several random branches, for the first metric.
        reordered: results of random orders of the branches, for the first metric.
        rankings: scores of the branches, from measured deletions and from other rankings.
        rankings_agree_with: description of the measured column of `rankings`.
        gradients: exact gradients by path length.
        sampled: gradients along random single paths, as published.
        path_loss: description of the quantity whose gradients are computed.
        path_unit: unit of the gradient norms.
        notes: notes on measurements that were not made, with the reason.
        provenance: origin of the numbers, as on every page.
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
        """True if lesions were measured on data."""
        return bool(self.deletions)
