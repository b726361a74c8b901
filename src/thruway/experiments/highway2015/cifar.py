"""Highway nets of 19 and 32 layers learn in one go where thin deep nets needed stages and a teacher's hints.

Paper     Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), sec. 3.3, tables 2 and 3; Romero et al.
          2015 (FitNets); rates of Highway B after the authors' published Caffe settings
Protocol  the two fitnets, Highway A, B and C, and plain nets with the layers and the number of parameters of B and C,
          all trained alike and from random weights; at laptop scale each with a second, lower rate, of which the one
          that fits the training examples better counts; test error of each seed
Claims    Highway A and B are as good as the fitnets of their depth and size; 32 layers are no worse than 11, and come
          near Highway B with fewer parameters; the plain nets of 19 and 32 layers fall behind (cifar_claims.py)
Measured  results/highway2015.cifar-laptop
Cost      demo a minute on one core; laptop 75 minutes; paper a GPU
Differs   no net here has hints or stages, the fitnets neither; the layers of Highway A and C are not published and
          reconstructed from their depth and size; one weight decay and one rate for all parameters; at demo and laptop
          scale narrower nets on other data, without dropout
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from thruway.experiments.image_study import ImageStudy

__all__ = ["NAMES", "SCALES", "Config", "Name", "at_rate", "best_of"]

Name = Literal["fitnet-a", "highway-a", "fitnet-b", "highway-b", "plain-b", "highway-c", "plain-c"]
NAMES: tuple[Name, ...] = ("fitnet-a", "highway-a", "fitnet-b", "highway-b", "plain-b", "highway-c", "plain-c")


class Config(ImageStudy):
    """Everything that decides the numbers of a run."""

    nets: tuple[Name, ...] = Field(default=NAMES, min_length=1)
    """Which of the nets are trained; a claim about others stays open."""
    narrower: int = Field(default=1, ge=1)
    """All layers have their published width divided by this."""
    gate_bias: float | None = None
    """Initial bias of the transform gates, before the sigmoid; unset: -2 for Highway B as published, and what the
    paper's guideline gives for the depth of A and C."""
    dropout: bool = True
    """Whether the highway nets and the plain ones drop units, as Highway B did."""
    other_rates: tuple[float, ...] = ()
    """Learning rates that every net is trained with as well; of a net and a seed the lowest training error counts."""

    @model_validator(mode="after")
    def _names_nets_once(self) -> "Config":
        if len(set(self.nets)) < len(self.nets):
            raise ValueError(f"nets names each net once, got {', '.join(self.nets)}")
        return self

    @model_validator(mode="after")
    def _has_other_rates(self) -> "Config":
        rates = self.other_rates
        if len({*rates, self.learning_rate}) <= len(rates) or not all(rate > 0 for rate in rates):
            raise ValueError(
                f"other_rates are above 0, each another than learning_rate={self.learning_rate}, got {rates}"
            )
        return self


def at_rate(name: Name, rate: float) -> str:
    """What a net is called that was trained with one of the other rates."""
    return f"{name}-at-{rate:g}"


def best_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of every net and seed the row of the rate that fits the training examples best, under the net's own name.

    >>> row = {"net": "plain-b", "seed": 0, "train_error": 0.9, "error": 0.9}
    >>> best_of([row, {**row, "net": at_rate("plain-b", 0.003), "train_error": 0.1, "error": 0.2}])
    [{'net': 'plain-b', 'seed': 0, 'train_error': 0.1, 'error': 0.2}]
    """
    best: dict[tuple[str, int], dict[str, Any]] = {}
    for row in rows:
        name = str(row["net"]).partition("-at-")[0]
        key = name, int(row["seed"])
        if key not in best or row["train_error"] < best[key]["train_error"]:
            best[key] = {**row, "net": name}
    return list(best.values())


_RECIPE: dict[str, Any] = {
    "warmup": 0,
    "drops": (0.5, 0.75, 0.875),
    "nesterov": True,
    "weight_decay": 0.001,
    "learning_rate": 0.025,
    "batch": 100,
    "contrast": True,
}

# Dropout is for trainings of hundreds of epochs: in pilot runs of twelve, on digits, Highway A, B and C stopped at 35,
# 16 and 47 % of the training examples wrong with it, at 1.4, 0.1 and 4 % without.
SCALES: dict[str, Config] = {
    "demo": Config(**{**_RECIPE, "batch": 50}, narrower=4, dropout=False, epochs=12),
    "laptop": Config(
        **_RECIPE,
        scale="laptop",
        data="fashion-mnist",
        pool=2,
        examples=10_000,
        narrower=4,
        dropout=False,
        other_rates=(0.003,),
        epochs=20,
        seeds=3,
    ),
    # 200,000 updates. Table 3's second row: --data cifar100 --nets highway-b
    "paper": Config(
        **_RECIPE, scale="paper", data="cifar10", augment=True, reach=8, epochs=400, seeds=5, device="cuda"
    ),
}
