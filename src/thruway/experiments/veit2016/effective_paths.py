"""A residual net trained on short paths only is as good as one trained on all of them.

Paper     Veit, Wilber & Belongie 2016, sec. 5
Protocol  two residual nets from the same start, on the same examples in the same order: one trained as usual, one with
          exactly k of n modules in each batch, drawn at random (23 of 54), so that no path is longer than k
Claims    the errors hardly differ (effective_paths_claims.py)
Measured  results/veit2016.effective_paths-laptop
Cost      demo half a minute on one core; laptop about 22 minutes, 6 on the nets of veit2016.lesion; paper a GPU
Differs   data, size and training of the nets at demo and laptop scale; in the test each module counts k/n times, on
          which the paper is silent (the table has the other way as well); the report lists all
"""

from pydantic import Field, model_validator

from thruway.experiments.veit2016.protocol import LAPTOP, PAPER, ResNetStudy

__all__ = ["SCALES", "Config"]


class Config(ResNetStudy):
    """Everything that decides the numbers of a run."""

    use: int | None = Field(default=None, ge=1)
    """Modules that take part in a training batch; unset: the share that 23 are of 54."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> "Config":
        if self.used > self.depth:
            raise ValueError(f"use: got {self.use}, and the net has {self.depth} modules")
        return self

    @property
    def used(self) -> int:
        """Modules that take part in a training batch.

        >>> SCALES["demo"].used, SCALES["paper"].used
        (6, 23)
        """
        return self.as_many_as(23) if self.use is None else self.use


SCALES: dict[str, Config] = {
    "demo": Config(),
    "laptop": Config(**LAPTOP),
    "paper": Config(**PAPER),
}
