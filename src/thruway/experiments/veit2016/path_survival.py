"""Deleting modules destroys the long paths of a residual net, and leaves many of the short ones that matter.

Paper     Veit, Wilber & Belongie 2016, sec. 5, fig. 7
Protocol  of the paths of each length, the share that is left when d modules are deleted at random; weighted by what
          the paths of that length carry in a trained net; beside the error of the net without d modules
Claims    of what paths carry, far more is left than of the paths; the error follows it (path_survival_claims.py)
Measured  results/veit2016.path_survival-laptop
Cost      demo a quarter of a minute on one core; laptop about 20 minutes, 4 on the nets of veit2016.lesion; paper a GPU
Differs   data, size and training of the nets at demo and laptop scale; weights and errors, which the paper leaves to
          the reader; the report lists all
"""

from pydantic import Field

from thruway.experiments.veit2016.protocol import LAPTOP, PAPER, DeletionStudy

__all__ = ["SCALES", "Config"]


class Config(DeletionStudy):
    """Everything that decides the numbers of a run."""

    probe: int = Field(default=64, ge=1)
    """Test examples whose gradients weigh the paths, the first ones."""
    paths: int = Field(default=20, ge=2)
    """Random paths of each length."""


SCALES: dict[str, Config] = {
    "demo": Config(),
    "laptop": Config(**LAPTOP, drawn_examples=1000),
    "paper": Config(**PAPER, deleted=tuple(range(1, 21)), draws=20, probe=128, paths=100),
}
