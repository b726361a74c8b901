"""What table 1 claims about small convolutional highway nets. Thresholds were set before any result was seen.

So was the tolerance of the two claims about the plain net, while the first run at laptop scale was in training.
"""

from thruway.experiments.claims import Claim
from thruway.experiments.compared_nets import Rows, error_of, excess
from thruway.experiments.highway2015.mnist_conv import Config

__all__ = ["claims_for"]

_PAPER = "Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), table 1"
_CONTROL = "ours, no paper says so: table 1 has no plain net"
# Of two nets that are equally good, either is ahead by a coin; this is about what seeds differ by, as in the study
# of CIFAR and that of the reply.
_AS_GOOD = 0.005

# Width to the mean accuracy less its deviation, as printed.
_PUBLISHED = {16: 0.9937, 32: 0.9952}


def claims_for(config: Config) -> tuple[Claim, ...]:
    """The claims that this run can judge: the paper's numbers are those of MNIST."""
    small, large = config.widths[0], config.widths[-1]
    claims = []
    if config.data == "mnist":
        claims += [_as_published(width) for width in config.widths if width in _PUBLISHED]
    if small < large:
        claims.append(
            Claim(
                id="wider-is-better",
                text="Twice the width gives a better net.",
                source=_PAPER,
                statistic=f"test error at width {large}, less that at width {small}",
                measure=excess(f"highway-{large}", f"highway-{small}"),
                holds_if="<",
                threshold=0.0,
            )
        )
    return (*claims, *(claim for width in config.widths if config.plain for claim in _beside_plain(width)))


def _as_published(width: int) -> Claim:
    def error(rows: Rows) -> float:
        return error_of(rows, f"highway-{width}")

    accuracy = _PUBLISHED[width]
    return Claim(
        id=f"as-published-{width}",
        text=f"A highway net of 10 layers, {width} wide, gets {100 * accuracy:.2f} % of MNIST's test examples right.",
        source=_PAPER,
        statistic="test error (share)",
        measure=error,
        holds_if="<=",
        threshold=round(1 - accuracy, 6),
    )


def _beside_plain(width: int) -> tuple[Claim, ...]:
    highway, plain = f"highway-{width}", f"plain-{width}"
    return (
        Claim(
            id=f"no-worse-than-plain-{width}",
            text="Its gates cost a net of 10 layers nothing: a plain net with as many parameters is hardly better.",
            source=_CONTROL,
            statistic=f"test error of the highway net of width {width}, less that of the plain net",
            measure=excess(highway, plain),
            holds_if="<=",
            threshold=_AS_GOOD,
        ),
        Claim(
            id=f"learns-as-well-as-plain-{width}",
            text="Nor does the plain net fit the training examples much better.",
            source=_CONTROL,
            statistic="the same of the training error",
            measure=excess(highway, plain, "train_error"),
            holds_if="<=",
            threshold=_AS_GOOD,
        ),
    )
