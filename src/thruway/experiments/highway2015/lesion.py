"""In a trained highway net of 50 layers the early ones matter; most of the later ones can go.

Paper     Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), sec. 4, fig. 4
Protocol  a highway net of 50 layers, trained; then, layer by layer, the error on the training part with that layer's
          transform gate shut, T = 0, so that it hands on what it got
Claims    layers 15 to 45 have almost no effect, and more than half of all layers have none; up to layer 45,
          what there is comes from the first 15 (lesion_claims.py)
Measured  results/highway2015.lesion-laptop
Cost      demo a quarter of a minute on one core; laptop six minutes; paper a GPU
Differs   data and training at demo and laptop scale; activation, rate and gate bias are from pilot runs (the paper's
          from a search that it does not print); beside T = 0 the gate held at its mean, unit by unit
"""

from typing import Any, Literal

from pydantic import Field

from thruway.experiments.image_study import ImageStudy

__all__ = ["SCALES", "Config"]


class Config(ImageStudy):
    """Everything that decides the numbers of a run."""

    depth: int = Field(default=50, ge=10)
    """Hidden layers, the first of which is a plain one."""
    width: int = Field(default=50, ge=1)
    activation: Literal["relu", "tanh"] = "tanh"
    gate_bias: float = -2.0
    """Initial bias of the transform gates, before the sigmoid; -2 as published."""
    lesioned_examples: int | None = Field(default=None, ge=20)
    """Training examples on which the lesions are measured, the first ones; unset: all."""


_RECIPE: dict[str, Any] = {"learning_rate": 0.05, "weight_decay": 0.0, "clip": 1.0}

SCALES: dict[str, Config] = {
    # From a bias of -2, 50 layers do not start to learn on 1,400 digits; tanh nets from -3 learn them in a few layers.
    "demo": Config(**{**_RECIPE, "learning_rate": 0.02}, activation="relu", gate_bias=-3.0, epochs=40),
    "laptop": Config(
        **_RECIPE, scale="laptop", data="fashion-mnist", epochs=20, batch=100, lesioned_examples=10_000, seeds=3
    ),
    "paper": Config(**_RECIPE, scale="paper", data="mnist", epochs=400, batch=100, seeds=3, device="cuda"),
}
