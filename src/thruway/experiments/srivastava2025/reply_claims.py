"""What the reply claims, as statistics of the rows. Thresholds were set before any run."""

from thruway.experiments.claims import Claim
from thruway.experiments.compared_nets import Rows, error_of, excess

__all__ = ["CLAIMS"]

_REPLY = "Srivastava 2025 (highway-resnet-comparison)"


def _error(rows: Rows) -> float:
    return error_of(rows, "highway")


CLAIMS = (
    Claim(
        id="trains",
        text="A gated net of this depth trains.",
        source=f"{_REPLY}; the mark is that of He et al. 2016, sec. 3.1, who call an error above 20 % a failure",
        statistic="test error of the highway net (share)",
        measure=_error,
        holds_if="<=",
        threshold=0.2,
    ),
    Claim(
        id="at-least-as-good",
        text="It is at least as good as the residual net.",
        source=f"{_REPLY} (93.96 % against 93.75 %)",
        statistic="test error of the highway net, less that of the residual net",
        measure=excess("highway", "resnet"),
        holds_if="<=",
        # About two deviations of the difference: He et al. 2015, table 6, have 0.16 points from run to run.
        threshold=0.005,
    ),
    Claim(
        id="fits-as-well",
        text="It fits the training examples as well.",
        source=f"{_REPLY}, the published logs: after 200 epochs a training loss of 0.0016 against 0.0019",
        statistic="the same of the training error",
        measure=excess("highway", "resnet", "train_error"),
        holds_if="<=",
        threshold=0.005,
    ),
)
