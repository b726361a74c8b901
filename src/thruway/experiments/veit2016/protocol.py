"""What the five studies share: the residual net, the recipe at each scale, and the paper's numbers as shares."""

import abc
from typing import Any

from pydantic import Field, model_validator

from thruway.experiments.image_study import ImageStudy

__all__ = ["LAPTOP", "MODULES_IN_PAPER", "PAPER", "DeletionStudy", "ResNetStudy"]

MODULES_IN_PAPER = 54

LAPTOP: dict[str, Any] = {
    "scale": "laptop",
    "data": "fashion-mnist",
    "pool": 2,
    "examples": 10_000,
    "test_examples": 2000,
    "modules": 18,
    "epochs": 12,
    "batch": 100,
    "seeds": 3,
}
"""What the studies' laptop scales have in common."""

PAPER: dict[str, Any] = {
    "scale": "paper",
    "data": "cifar10",
    "augment": True,
    "fill": "zeros",
    "modules": 18,
    "widths": (16, 32, 64),
    "epochs": 164,
    "batch": 128,
    "seeds": 3,
    "device": "cuda",
}
"""The recipe of He et al. 2016 for ResNet-110: 64,000 updates, a tenth of the rate after a half and three quarters."""


class ResNetStudy(ImageStudy, abc.ABC):
    """A study of a pre-activation residual net of 6·modules + 2 layers."""

    modules: int = Field(default=5, ge=1)
    """Residual modules in each of the three stages: 18 make the 54 of ResNet-110."""
    widths: tuple[int, int, int] = (8, 16, 32)
    """Channels of each stage."""

    @property
    def depth(self) -> int:
        """Residual modules in all."""
        return 3 * self.modules

    def as_many_as(self, of_54: int) -> int:
        """The same share of this net's modules as so many of the paper's 54; at least one.

        >>> from thruway.experiments.veit2016.lesion import SCALES
        >>> SCALES["demo"].depth, SCALES["demo"].as_many_as(10), SCALES["paper"].as_many_as(10)
        (15, 3, 10)
        """
        return max(1, round(of_54 * self.depth / MODULES_IN_PAPER))


class DeletionStudy(ResNetStudy, abc.ABC):
    """A study that deletes random modules, several at a time."""

    deleted: tuple[int, ...] = (1, 2, 4, 6, 8, 10, 12, 15, 20)
    """How many modules are deleted together, of 54: smaller nets lose the same shares. 10 and 20 always are."""
    draws: int = Field(default=10, ge=1)
    """Random lesions for each number."""
    drawn_examples: int | None = Field(default=None, ge=20)
    """Test examples on which the random lesions are measured, the first ones; unset: all."""

    @model_validator(mode="after")
    def _can_be_deleted(self) -> "DeletionStudy":
        if any(not 1 <= count <= MODULES_IN_PAPER for count in self.deleted):
            raise ValueError(
                f"deleted counts 1 to {MODULES_IN_PAPER} of {MODULES_IN_PAPER} modules, got {self.deleted}"
            )
        return self

    @property
    def ks(self) -> list[int]:
        """Modules of this net that are deleted together.

        >>> from thruway.experiments.veit2016.lesion import SCALES
        >>> SCALES["demo"].ks, SCALES["laptop"].ks
        ([1, 2, 3, 4, 6], [1, 2, 4, 6, 8, 10, 12, 15, 20])
        """
        return sorted({self.as_many_as(count) for count in (*self.deleted, 10, 20)})
