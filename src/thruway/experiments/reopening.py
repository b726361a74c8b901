"""The nets that runs have trained, out of their folders again, with the data they are tested on.

A checkpoint is numbers only; what net they belong to, its study knows: one row per study in `KEEPERS`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from thruway.data import TensorSet
from thruway.dissecting import Dissection, dissect
from thruway.errors import CheckpointError, ConfigError, unknown_name
from thruway.experiments import image_parts, measuring, net_training
from thruway.experiments.highway2015 import (
    cifar,
    cifar_opening,
    cifar_run,
    depth,
    depth_training,
    gates,
    gates_run,
    mnist_conv,
    mnist_conv_run,
    very_deep,
    very_deep_run,
)
from thruway.experiments.highway2015 import lesion as highway_lesion
from thruway.experiments.highway2015 import lesion_run as highway_lesion_run
from thruway.experiments.image_study import ImageStudy
from thruway.networks import VGG, ConvNet
from thruway.nn import HighwayConv2d
from thruway.runs import RunReader

__all__ = ["KEEPERS", "KeptNet", "Reopened", "chosen_net", "kept_nets"]

_SHOWN = 8  # names in a message


class Reopened(NamedTuple):
    """A trained net, and what it is tested on.

    Attributes:
        dissection: of the net, in evaluation mode, on the CPU.
        test: the test part, as the run prepared it.
        has_shortcuts: without any, its layers can be left out, but there are no paths to tell apart.
    """

    dissection: Dissection
    test: TensorSet
    has_shortcuts: bool = True


@dataclass(frozen=True)
class KeptNet:
    """A trained net that a run folder keeps.

    Attributes:
        name: within the run: of its checkpoint, and where several nets share one, with the net's number.
        about: what it is, in a line.
        open: (data root or None, whether to download) -> the net.
    """

    name: str
    about: str
    open: Callable[[Path | None, bool], Reopened]


def kept_nets(reader: RunReader) -> dict[str, KeptNet]:
    """The trained nets of a run folder, by name.

    Raises:
        ConfigError: for a run that is of no study in `KEEPERS`.
        CheckpointError: if no net is trained to the end yet.
    """
    if reader.name not in KEEPERS:
        raise ConfigError(
            f"{reader.folder} is a run of {reader.name!r}, and how its nets are built is not known here. Known: "
            f"{', '.join(KEEPERS)}. For a net of your own give the function that builds it, and its weights beside: "
            "thruway dissect package.module:function --weights FILE."
        )
    found = {net.name: net for net in KEEPERS[reader.name](reader)}
    if not found:
        raise CheckpointError(
            f"{reader.folder} keeps no trained net yet. Let the run go on: thruway run --resume {reader.folder}."
        )
    return found


def chosen_net(reader: RunReader, name: str | None) -> KeptNet:
    """One of the nets, which may go unnamed if there is only one.

    Raises:
        ConfigError: for a name that is not there, or none where several are.
    """
    found = kept_nets(reader)
    if name is not None and name not in found:
        raise ConfigError(unknown_name("net", name, found))
    if name is None and len(found) > 1:
        named = ", ".join(list(found)[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
        raise ConfigError(f"{reader.folder} keeps {len(found)} nets: {named}. Choose one: --net {next(iter(found))}.")
    return found[name] if name is not None else next(iter(found.values()))


def _searched(reader: RunReader) -> list[KeptNet]:
    """Of a depth search: every trial that is trained to the end and has not diverged."""
    config = depth.Config.model_validate(reader.config)
    done = set(reader.checkpoints())
    return [
        KeptNet(
            f"{case.name}/{member}",
            f"{case.block} net of {case.depth} hidden layers, {case.activation}, trial {member}",
            partial(_open_searched, reader, config, case, place),
        )
        for case in depth.cases(config)
        if case.name in done and (reader.load(case.name).state or {}).get("is_finished")
        for place, member in enumerate(case.members)
    ]


def _open_searched(
    reader: RunReader, config: depth.Config, case: depth.Case, place: int, root: Path | None, download: bool
) -> Reopened:
    here = _here(config, root, download)
    parts = depth_training.load_parts(here)
    population = depth_training.build_population(here, case, parts.train)
    population.load(reader.load(case.name).tensors)
    if not population.is_alive[place]:
        raise CheckpointError(
            f"trial {case.members[place]} of {case.name} diverged, so that there is no net. Choose another."
        )
    return Reopened(dissect(population.model(place).eval(), parts.test.images[:2]), parts.test, case.block != "plain")


Opening = Callable[[nn.Module, image_parts.Parts], Dissection]


def _measured(
    kind: type[ImageStudy], measurements: Callable[[Any], Iterable[measuring.Measurement]], opened: Opening
) -> Callable[[RunReader], list[KeptNet]]:
    """Of a study that trains nets and measures them: every net that is trained to the end."""

    def kept(reader: RunReader) -> list[KeptNet]:
        config = kind.model_validate(reader.config)
        known = {each.net.checkpoint: each.net for each in measurements(config)}
        done = [name for name in reader.checkpoints() if name in known]
        finished = [name for name in done if (reader.load(name).state or {}).get("epoch") == config.epochs]
        return [
            KeptNet(
                name,
                f"{known[name].name} net of seed {known[name].seed}, trained {config.epochs} epochs on {config.data}",
                partial(_open_measured, reader, config, known[name], opened),
            )
            for name in sorted(finished)
        ]

    return kept


def _open_measured(
    reader: RunReader, config: ImageStudy, net: net_training.Net, opened: Opening, root: Path | None, download: bool
) -> Reopened:
    here = _here(config, root, download)
    parts = image_parts.load_parts(here)
    dissection = opened(net_training.trained(here, net, parts, reader), parts)
    return Reopened(dissection, parts.test, _has_shortcuts(dissection))


def _has_shortcuts(dissection: Dissection) -> bool:
    # The layers of these are declared, and what is declared counts as a branch.
    is_declared = isinstance(dissection.model, VGG | ConvNet)
    has_highways = any(isinstance(module, HighwayConv2d) for module in dissection.model.modules())
    is_found = any(each.kind != "module" for each in dissection.branches)
    return has_highways or (is_found and not is_declared)


def _here(config: Any, root: Path | None, download: bool) -> Any:
    """The config on this machine: it need not have the device, nor the data where the training had it."""
    place = {} if root is None else {"data_root": root}
    return config.model_copy(update={"device": "cpu", "download": download, **place})


def _plainly(model: nn.Module, parts: image_parts.Parts) -> Dissection:
    return dissect(model, parts.test.images[:2])


KEEPERS: dict[str, Callable[[RunReader], list[KeptNet]]] = {
    "highway2015.depth": _searched,
    "highway2015.convergence": _searched,
    "highway2015.gates": _measured(gates.Config, gates_run.measurements, _plainly),
    "highway2015.very_deep": _measured(very_deep.Config, very_deep_run.measurements, _plainly),
    "highway2015.mnist_conv": _measured(mnist_conv.Config, mnist_conv_run.measurements, _plainly),
    "highway2015.cifar": _measured(cifar.Config, cifar_run.measurements, cifar_opening.opened),
    "highway2015.lesion": _measured(highway_lesion.Config, highway_lesion_run.measurements, _plainly),
}
