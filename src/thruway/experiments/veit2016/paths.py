"""Short paths carry the gradient of a deep residual net, although nearly all of its paths are of middling length.

Paper     Veit, Wilber & Belongie 2016, sec. 4.4 to 5, fig. 6
Protocol  a residual net, trained; how many of its paths have each length; the gradient with respect to the input along
          single random paths of each length, as published, and the exact sum over all paths of a length
Claims    lengths are binomial; a path's gradient falls exponentially with its length; short paths contribute nearly
          everything (paths_claims.py)
Measured  results/veit2016.paths-laptop
Cost      demo a quarter of a minute on one core; laptop about 20 minutes, 4 on the nets of veit2016.lesion; paper a GPU
Differs   data, size and training of the nets at demo and laptop scale; the exact decomposition beside the published
          estimate; the report lists all
"""

from pydantic import Field

from thruway.experiments.veit2016.protocol import LAPTOP, PAPER, ResNetStudy

__all__ = ["SCALES", "Config"]


class Config(ResNetStudy):
    """Everything that decides the numbers of a run."""

    probe: int = Field(default=64, ge=1)
    """Test examples whose gradients are taken apart, the first ones."""
    paths: int = Field(default=20, ge=2)
    """Random paths of each length."""


SCALES: dict[str, Config] = {
    "demo": Config(),
    "laptop": Config(**LAPTOP, paths=40),
    "paper": Config(**PAPER, probe=128, paths=100),
}
