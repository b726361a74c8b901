"""What the nets of the study learn from, and the fixed examples on which they are watched."""

from functools import partial
from typing import NamedTuple

from torch import Tensor

from thruway import data
from thruway.errors import ConfigError, unknown_name
from thruway.experiments.glorot2010.errors_data import Finite, Online, Source
from thruway.experiments.glorot2010.saturation import Config
from thruway.seeding import derive

__all__ = ["Parts", "load_parts", "stream"]


class Parts(NamedTuple):
    """All that a run sees."""

    source: Source
    probe: Tensor  # (examples, inputs)
    classes: int

    @property
    def inputs(self) -> int:
        """Numbers in an example."""
        return self.probe.shape[1]


def load_parts(config: Config) -> Parts:
    """The data of a run on the device that trains.

    Raises:
        ConfigError: for an unknown data set, or fewer examples than a batch or the probe takes.
        DatasetError: if the data is not there, or damaged.
    """
    if config.data == "shapeset":
        if config.examples is not None:
            raise ConfigError(
                f"examples: got {config.examples}, but Shapeset is drawn as it is needed and has no end. "
                "Leave it out, or name another data set."
            )
        source = Online(config.size, config.device)
        # The same in every run, so that runs can be compared.
        probe, _ = source.draw(stream("probe", 0), 0, config.probe)
        return Parts(source, probe, len(data.Shapeset(config.size).classes))
    if config.data not in data.DATASETS:
        raise ConfigError(unknown_name("data set", config.data, {*data.DATASETS, "shapeset"}))
    get = partial(data.load, config.data, config.data_root, download=config.download)
    train, test = get(train=True, limit=config.examples), get(train=False, limit=config.probe)
    for name, asked, there in (("batch", config.batch, len(train)), ("probe", config.probe, len(test))):
        if asked > there:
            raise ConfigError(f"{name}: got {asked}, but {config.data} has {there} examples for it. Take at most that.")
    # Everything is shifted and scaled by the training part's numbers.
    moments = train.moments()
    train, test = (part.standardised(*moments).flat().to(config.device) for part in (train, test))
    return Parts(Finite(train.images, train.labels), test.images, len(train.classes))


def stream(name: str, seed: int) -> int:
    """The seed of a stream of examples; the probe's meets no training stream's.

    >>> stream("train", 0) == stream("probe", 0)
    False
    """
    return derive(seed, "glorot2010.saturation", name) % 2**31
