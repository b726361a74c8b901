"""Trained networks of run folders, loaded again with the data they are tested on."""

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
    """A trained network, and the data it is tested on.

    Attributes:
        dissection: dissection of the network, in evaluation mode, on the CPU.
        test: the test part, as the run prepared it.
        has_shortcuts: if False, its layers can be left out but it has no paths of different length.
    """

    dissection: Dissection
    test: TensorSet
    has_shortcuts: bool = True


@dataclass(frozen=True)
class StoredNet:
    """A trained network in a run folder.

    Attributes:
        name: name within the run: that of its checkpoint, and its number where several share one.
        about: description in one line.
        open: (data root or None, whether to download the data) -> the network.
    """

    name: str
    about: str
    open: Callable[[Path | None, bool], OpenedNet]


def choose_net(found: Mapping[str, StoredNet], name: str | None, folder: Path) -> StoredNet:
    """Return one of the stored networks. The name may be None if there is only one.

    Raises:
        ConfigError: for an unknown name, or no name where there are several networks.
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
    """Return whether the network has paths of different length."""
    # The layers of these networks are declared as branches, and are not shortcuts.
    is_declared = isinstance(dissection.model, VGG | ConvNet)
    has_highways = any(isinstance(module, HighwayConv2d) for module in dissection.model.modules())
    is_found = any(each.kind != "module" for each in dissection.branches)
    return has_highways or (is_found and not is_declared)


def on_this_machine(config: Any, root: Path | None, download: bool) -> Any:
    """Return the config for this machine, which may lack the device and have the data in another folder."""
    place = {} if root is None else {"data_root": root}
    return config.model_copy(update={"device": "cpu", "download": download, **place})
