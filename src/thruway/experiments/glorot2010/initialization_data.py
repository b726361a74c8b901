"""What the study learns from and is measured on."""

from typing import NamedTuple

from thruway.experiments.glorot2010 import errors
from thruway.experiments.glorot2010.errors_data import Examples, Source
from thruway.experiments.glorot2010.errors_data import load_parts as load_error_parts
from thruway.experiments.glorot2010.initialization import Config

__all__ = ["Parts", "load_parts"]


class Parts(NamedTuple):
    """An endless stream of training examples, and the held-out ones on which the start is measured."""

    source: Source
    probe: Examples
    classes: int

    @property
    def inputs(self) -> int:
        """Numbers in an example."""
        return self.probe[0].shape[1]


def load_parts(config: Config) -> Parts:
    """The data of a run on the device that computes: that of `glorot2010.errors`.

    Raises:
        ConfigError: for an unknown data set, one that nobody can get, or a batch larger than the data.
        DatasetError: if the data is not there, or damaged.
    """
    parts = load_error_parts(
        errors.Config(
            data=config.data,
            data_root=config.data_root,
            download=config.download,
            size=config.size,
            examples=config.examples,
            held_out=config.probe,
            batch=config.batch,
            fixed_examples=0,
            device=config.device,
        )
    )
    images, labels = parts.test
    return Parts(parts.source, (images[: config.probe], labels[: config.probe]), parts.classes)
