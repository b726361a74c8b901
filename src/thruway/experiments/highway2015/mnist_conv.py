"""A convolutional highway net of 10 layers and 39,000 parameters learns digits as well as nets ten times its size.

Paper     Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), sec. 3.2, table 1; layers, dropout and
          rates after the authors' published Caffe settings
Protocol  the 10-layer highway net of each width, and beside it a plain net of the same layers with as many parameters,
          trained alike; test accuracy of each seed
Claims    the small net reaches 99.4 % (judged on MNIST only), and twice the width a little more (where both are
          trained); hardly worse than the plain net, in the test and on the training examples (mnist_conv_claims.py)
Measured  results/highway2015.mnist_conv-laptop
Cost      demo a quarter of a minute on one core; laptop 46 minutes on a busy one; paper a GPU
Differs   the plain net is ours; data, updates, learning rate and no dropout at demo and laptop scale; one weight decay
          and one rate for all parameters; the report lists all
"""

from typing import Any

from pydantic import Field, model_validator

from thruway.experiments.image_study import ImageStudy

__all__ = ["SCALES", "Config"]


class Config(ImageStudy):
    """Everything that decides the numbers of a run."""

    widths: tuple[int, ...] = Field(default=(16,), min_length=1)
    """Channels of every layer of the highway nets, one net each: 16 and 32 as published."""
    gate_bias: float = -1.0
    """Initial bias of the transform gates, before the sigmoid; -1 as published."""
    dropout: bool = True
    """Whether units are dropped after the poolings and in the input, as published."""
    plain: bool = True
    """Whether a plain net with as many parameters learns beside each highway net."""

    @model_validator(mode="after")
    def _are_several_nets(self) -> "Config":
        if min(self.widths) < 1 or list(self.widths) != sorted(set(self.widths)):
            raise ValueError(f"widths are rising numbers of channels from 1 on, got {self.widths}")
        return self


_RECIPE: dict[str, Any] = {"warmup": 0, "drops": (1 / 3, 2 / 3), "nesterov": True, "weight_decay": 0.001, "batch": 100}

# Dropout is for trainings of hundreds of epochs. In pilot runs of five, on 10,000 images of Fashion-MNIST at 14 x 14,
# both nets stopped at 44 to 56 % wrong with it, at 20 and 22 % without, and from rates of
# 0.05 (without dropout) and 0.1 (with) the plain one did not learn.
SCALES: dict[str, Config] = {
    "demo": Config(**{**_RECIPE, "batch": 50}, learning_rate=0.02, dropout=False, epochs=30),
    "laptop": Config(
        **_RECIPE,
        scale="laptop",
        data="fashion-mnist",
        examples=50_000,
        learning_rate=0.02,
        dropout=False,
        epochs=5,
        seeds=3,
    ),
    # 180,000 updates.
    "paper": Config(
        **_RECIPE,
        scale="paper",
        data="mnist",
        learning_rate=0.01,
        widths=(16, 32),
        epochs=300,
        seeds=5,
        device="cuda",
    ),
}
