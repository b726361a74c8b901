"""A residual net shrugs off the loss of a module, also of several, and their reordering; a plain net does not.

Paper     Veit, Wilber & Belongie 2016, sec. 4, figs. 3 to 5
Protocol  a residual net and a VGG, trained; then, without training again, the test error without each layer of the VGG
          and each module of the residual net; without k random modules; and with k random pairs of modules of equal
          shape swapped
Claims    one module is not missed, but where the size changes; any layer of VGG is; the error grows smoothly with the
          number of modules deleted, and with the distance from their order (lesion_claims.py)
Measured  results/veit2016.lesion-laptop
Cost      demo half a minute on one core; laptop about 25 minutes; paper a GPU
Differs   data, size and training of the nets at demo and laptop scale; VGG with and without batch norm, since the
          paper does not say which it had; the report lists all
"""

from typing import Literal

from pydantic import Field, model_validator

from thruway.experiments.veit2016.protocol import LAPTOP, PAPER, DeletionStudy

__all__ = ["SCALES", "Config"]


class Config(DeletionStudy):
    """Everything that decides the numbers of a run."""

    plain: tuple[Literal["vgg", "vgg-norm"], ...] = ("vgg", "vgg-norm")
    """VGG without and with batch norm."""
    vgg_width: int = Field(default=16, ge=1)
    """Channels of VGG's first stage; the others have 2, 4, 8 and 8 times as many. 64 as published."""
    vgg_learning_rate: float = Field(default=0.01, gt=0)
    """Of the VGG without batch norm, which learns nothing at the rate of the others. It starts from LSUV."""
    swaps: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """How many pairs are swapped, one after the other."""

    @model_validator(mode="after")
    def _can_be_lesioned(self) -> "Config":
        if len(set(self.plain)) < len(self.plain):
            raise ValueError(f"plain names each net once, got {', '.join(self.plain)}")
        if not self.swaps or min(self.swaps) < 1:
            raise ValueError(f"swaps counts pairs, at least 1, got {self.swaps}")
        if self.modules < 3:
            raise ValueError(
                f"modules: got {self.modules}, and in a stage of fewer than 3 no two modules have one shape but its "
                "first"
            )
        return self


SCALES: dict[str, Config] = {
    "demo": Config(),
    "laptop": Config(**LAPTOP, draws=5, drawn_examples=1000),
    "paper": Config(**PAPER, vgg_width=64, deleted=tuple(range(1, 21)), swaps=tuple(range(1, 28)), draws=20),
}
