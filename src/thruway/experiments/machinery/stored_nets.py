"""Trained networks loaded from run folders, with their test data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from thruway.data import TensorSet
from thruway.dissecting import Dissection, dissect
from thruway.errors import ConfigError, unknown_name
from thruway.experiments.machinery.images import ImageParts
from thruway.networks import VGG, ConvNet
from thruway.nn import HighwayConv2d

__all__ = ["OpenedNet", "StoredNet", "choose_net", "dissected", "has_shortcuts", "on_this_machine"]

_SHOWN = 8  # names in a message


class OpenedNet(NamedTuple):
    """A trained network and its test data.

    Attributes:
        dissection: dissection of the network, in evaluation mode, on the CPU.
        test: the test part, prepared as in the run.
        has_shortcuts: If False, layers can be left out, but there are no paths of different lengths.
    """

    dissection: Dissection
    test: TensorSet
    has_shortcuts: bool = True


@dataclass(frozen=True)
class StoredNet:
    """A trained network in a run folder.

    Attributes:
        name: name within the run: that of the checkpoint, followed by a number if the checkpoint contains several
            networks.
        about: one-line description.
        open: function (data root or None, whether to download the data) that returns the network.
    """

    name: str
    about: str
    open: Callable[[Path | None, bool], OpenedNet]


def choose_net(found: Mapping[str, StoredNet], name: str | None, folder: Path) -> StoredNet:
    """Return one of the stored networks. `name` may be None if there is only one.

    Raises:
        ConfigError: if the name is unknown, or is None although there are several networks.
    """
    if name is not None and name not in found:
        raise ConfigError(unknown_name("net", name, found))
    if name is None and len(found) > 1:
        named = ", ".join(list(found)[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
        raise ConfigError(f"{folder} has {len(found)} networks: {named}. Choose one: --net {next(iter(found))}.")
    return found[name] if name is not None else next(iter(found.values()))


def dissected(model: nn.Module, parts: ImageParts) -> Dissection:
    """Dissect a network, with test images as example inputs."""
    return dissect(model, parts.test.images[:2])


def has_shortcuts(dissection: Dissection) -> bool:
    """Return True if the network has paths of different lengths."""
    # The layers of these networks are declared as branches, and are not shortcuts.
    is_declared = isinstance(dissection.model, VGG | ConvNet)
    has_highways = any(isinstance(module, HighwayConv2d) for module in dissection.model.modules())
    is_found = any(each.kind != "module" for each in dissection.branches)
    return has_highways or (is_found and not is_declared)


def on_this_machine(config: Any, root: Path | None, download: bool) -> Any:
    """Return the config adapted to this machine, which may lack the device or have the data in another folder."""
    place = {} if root is None else {"data_root": root}
    return config.model_copy(update={"device": "cpu", "download": download, **place})
