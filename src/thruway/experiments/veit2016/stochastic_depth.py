"""Stochastic depth makes a residual net only a little more robust to the loss of modules.

Paper     Veit, Wilber & Belongie 2016, fig. 8; Huang, Sun, Liu, Sedra & Weinberger 2016 for the training
Protocol  two residual nets from the same start, on the same examples in the same order: one trained as usual, one with
          stochastic depth (p_L = 0.5, linear rule); the error of both without k random modules
Claims    the net trained with stochastic depth is more robust, but only slightly (stochastic_depth_claims.py)
Measured  results/veit2016.stochastic_depth-laptop
Cost      demo half a minute on one core; laptop about 33 minutes, 17 on the nets of veit2016.lesion; paper a GPU
Differs   data, size and training of the nets at demo and laptop scale; what the figure shows is known at second hand
          only; the report lists all
"""

from pydantic import Field

from thruway.experiments.veit2016.protocol import LAPTOP, PAPER, DeletionStudy

__all__ = ["SCALES", "Config"]


class Config(DeletionStudy):
    """Everything that decides the numbers of a run."""

    survival: float = Field(default=0.5, gt=0, lt=1)
    """The probability that the last module takes part in a training batch; the others' lie on a line from 1 to it."""


SCALES: dict[str, Config] = {
    "demo": Config(),
    "laptop": Config(**LAPTOP, draws=5, drawn_examples=1000),
    "paper": Config(**PAPER, deleted=tuple(range(1, 21)), draws=20),
}
