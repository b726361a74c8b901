"""A recurrent net reads text better when its step is deeper, with no more parameters.

Paper     Zilly, Srivastava, Koutník & Schmidhuber 2017 (Recurrent Highway Networks), sec. 5; the numbers for each depth
          in the authors' repository, jzilly/RecurrentHighwayNetworks
Protocol  language models with recurrence depths from 1 to 10 and one number of parameters, so that deeper ones are
          narrower; the test loss where the validation loss was lowest
Claims    deeper is better, at every step; most of it comes with the first (depth_claims.py, set before any run)
Measured  results/rhn2017.depth-laptop
Cost      demo half a minute on one thread; laptop 43 minutes on one of a busy machine; paper a GPU
Differs   characters of Python's documentation instead of the words of the Penn Treebank; nets a few hundred times
          smaller, trained for a few epochs with Adam and without dropout, which nets this small do not need
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["SCALES", "Config"]


class Config(BaseModel):
    """Everything that decides the numbers of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    scale: Literal["demo", "laptop", "paper"] = "demo"
    """demo: a minute; laptop: three quarters of an hour on one busy core; paper: the authors' settings for characters,
    needs a GPU. Sets the other defaults."""
    characters: int | None = Field(default=100_000, ge=1000)
    """The text's first so many; unset: all."""
    depths: tuple[int, ...] = Field(default=(1, 3, 10), min_length=1)
    """Micro-steps in a time step."""
    parameters: int = Field(default=30_000, ge=1)
    """Of the whole net; its width is what comes nearest."""
    embedding: int = Field(default=32, ge=1)
    """Features that a character is looked up as."""
    gate_bias: float = -2.0
    epochs: int = Field(default=10, ge=1)
    batch: int = Field(default=32, ge=1)
    """Pieces of the text that are read side by side."""
    window: int = Field(default=50, ge=1)
    """Characters between two updates; the state is handed on, the gradient is not."""
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = Field(default=1e-2, gt=0)
    steady: float = Field(default=0.5, ge=0, le=1)
    """Share of the epochs with the full learning rate."""
    decay: float = Field(default=0.6, gt=0, le=1)
    """What it is multiplied by in each epoch after those."""
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)
    """The largest norm of the gradient."""
    drop_input: float = Field(default=0.0, ge=0, lt=1)
    drop_state: float = Field(default=0.0, ge=0, lt=1)
    drop_output: float = Field(default=0.0, ge=0, lt=1)
    """Each by one mask per piece of text and window."""
    seed: int = Field(default=0, ge=0)
    seeds: int = Field(default=1, ge=1)
    """Independent nets of each depth, with seeds seed, seed + 1, ...; a verdict needs three."""
    device: str = "cpu"

    @model_validator(mode="after")
    def _has_depths(self) -> "Config":
        if min(self.depths) < 1 or len(set(self.depths)) < len(self.depths):
            raise ValueError(f"depths are different numbers of at least 1, got {', '.join(map(str, self.depths))}")
        return self

    @property
    def all_seeds(self) -> range:
        """seed, seed + 1, ..."""
        return range(self.seed, self.seed + self.seeds)

    def learning_rate_at(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        falling = max(0, epoch + 1 - max(1, round(self.steady * self.epochs)))
        return self.learning_rate * float(self.decay**falling)


SCALES: dict[str, Config] = {
    "demo": Config(),
    "laptop": Config(scale="laptop", characters=None, depths=(1, 2, 3, 5, 7, 10), epochs=20, decay=0.75, seeds=3),
    # The authors' for enwik8. They sum the loss over the 50 steps of a window, which is averaged here: their rate of
    # 0.2 is 50 times that, their largest norm of 10 a fiftieth, and their weight decay shrinks weights as much a step.
    "paper": Config(
        scale="paper",
        characters=None,
        depths=tuple(range(1, 11)),
        parameters=21_000_000,
        embedding=205,
        gate_bias=-4.0,
        epochs=500,
        batch=128,
        window=50,
        optimizer="sgd",
        learning_rate=10.0,
        steady=0.01,
        decay=1 / 1.03,
        weight_decay=2e-9,
        clip=0.2,
        drop_input=0.4,
        drop_state=0.1,
        drop_output=0.4,
        seeds=3,
        device="cuda",
    ),
}
