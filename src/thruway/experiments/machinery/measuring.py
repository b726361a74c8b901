"""Studies that train networks and measure them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from thruway.dissecting import Dissection
from thruway.errors import CheckpointError, ConfigError
from thruway.experiments.machinery.image_config import ImageConfig
from thruway.experiments.machinery.images import ImageParts, load_images
from thruway.experiments.machinery.resumable import Progress
from thruway.experiments.machinery.stored_nets import OpenedNet, StoredNet, dissected, has_shortcuts, on_this_machine
from thruway.experiments.machinery.study import Claim, Rows, Study, StudyPage, differences, setting_in_words
from thruway.experiments.machinery.training import Net, epochs_left, train_net, trained_net
from thruway.runs import Run, RunReader

__all__ = ["Measurement", "Row", "measured_study", "read_rows", "run_measurements"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Measurement:
    """One measurement on one trained network.

    Attributes:
        name: name of the measurement, such as "delete_one".
        net: the network to measure.
        measure: function (network, data) that returns rows of plain numbers and strings. It must not change the
            network.
        cost: function of the data that returns the cost of the measurement, in the unit of `Net.cost`.
    """

    name: str
    net: Net
    measure: Callable[[nn.Module, ImageParts], list[Row]]
    cost: Callable[[ImageParts], float] = lambda _parts: 1.0

    @property
    def checkpoint(self) -> str:
        """Name of the checkpoint that contains the rows."""
        return f"{self.name}-{self.net.name}-{self.net.seed}"


def measured_study(
    *,
    name: str,
    title: str,
    source: str,
    config: type[ImageConfig],
    scales: Mapping[str, ImageConfig],
    measurements: Callable[[Any], Sequence[Measurement]],
    claims: Sequence[Claim] | Callable[[Any], Sequence[Claim]],
    page: Callable[[RunReader, Any, Rows], StudyPage],
    prepare: Callable[[Any], ImageParts] = load_images,
    open_net: Callable[[nn.Module, ImageParts], Dissection] = dissected,
    example: str = "--scale demo",
) -> Study:
    """Return a study that trains networks, measures them, and reports the rows.

    Args:
        name, title, source, config, scales, claims, example: see `Study`.
        measurements: function of the config that returns the measurements. All their networks are trained.
        page: function (run folder, config, rows) that returns the page. Data, training, seeds, cost, status and
            differences between scales are added to it; its `facts` need only describe the networks.
        prepare: function of the config that returns the images, and raises an error if the config does not fit them.
        open_net: function (network, data) that returns the dissection of the network, for `thruway dissect RUN`.
    """

    check_functions(name, claims, measurements=measurements, page=page, prepare=prepare)

    def run(config: Any, parts: ImageParts, run: Run, progress: Progress) -> None:
        run_measurements(config, measurements(config), parts, run, progress)

    def rows(reader: RunReader, config: Any) -> Rows:
        return read_rows(reader, measurements(config))

    def whole_page(reader: RunReader, config: Any, rows: Rows) -> StudyPage:
        return _with_provenance(page(reader, config, rows), reader, config, scales.get("paper"))

    def stored_nets(reader: RunReader, config: Any) -> list[StoredNet]:
        return _stored_nets(reader, config, measurements(config), open_net)

    return Study(
        name=name,
        title=title,
        source=source,
        config=config,
        scales=scales,
        prepare=prepare,
        run=run,
        rows=rows,
        claims=claims,
        page=whole_page,
        stored_nets=stored_nets,
        example=example,
    )


def check_functions(study: str, claims: Any, **functions: Any) -> None:
    """Raise ConfigError if an argument that must be a function is not, or claims are neither functions nor Claims."""
    for argument, value in functions.items():
        if not callable(value):
            raise ConfigError(f"{study}: {argument} must be a function, got {type(value).__name__}.")
    is_sequence = isinstance(claims, Sequence) and all(isinstance(each, Claim) for each in claims)
    if not callable(claims) and not is_sequence:
        raise ConfigError(f"{study}: claims must be a sequence of Claim or a function, got {type(claims).__name__}.")


def run_measurements(
    config: ImageConfig, measurements: Sequence[Measurement], parts: ImageParts, run: Run, progress: Progress
) -> None:
    """Train and measure every network. Networks and measurements in the run folder are not computed again.

    Every row gets the name and the seed of its network. The rows of a measurement are stored together.
    """
    nets = list({each.net.checkpoint: each.net for each in measurements}.values())
    done = run.checkpoints()
    left = [each for each in measurements if each.checkpoint not in done]
    to_train = sum(net.cost * len(parts.train) * epochs_left(config, net, run) for net in nets)
    progress.begin(max(1.0, to_train + sum(each.cost(parts) for each in left)))
    for net in nets:
        if epochs_left(config, net, run):
            train_net(config, net, parts, run, progress)
        mine = [each for each in left if each.net.checkpoint == net.checkpoint]
        if mine:
            model = trained_net(config, net, parts, run)
        for each in mine:
            started = time.monotonic()
            rows = [{"net": net.name, "seed": net.seed, **row} for row in each.measure(model, parts)]
            run.log(0, {"seconds": time.monotonic() - started}, site=f"{each.name}/{net.name}", member=net.seed)
            run.save(each.checkpoint, {}, state={"rows": rows})
            progress.advance(each.cost(parts), f"{net.name}, seed {net.seed}, {each.name.replace('_', ' ')}")


def read_rows(reader: RunReader, measurements: Sequence[Measurement]) -> list[Row]:
    """Return the rows of all finished measurements, in the order of `measurements`."""
    done = set(reader.checkpoints())
    rows: list[Row] = []
    for each in measurements:
        if each.checkpoint in done:
            state = reader.load(each.checkpoint).state
            if state is None or "rows" not in state:
                raise CheckpointError(f"the checkpoint {each.checkpoint!r} holds no rows. Remove it to measure again.")
            rows += state["rows"]
    return rows


# --- the report


def _with_provenance(page: StudyPage, reader: RunReader, config: ImageConfig, paper: ImageConfig | None) -> StudyPage:
    """Add the facts known from the config and the run folder: status, data, training, seeds, cost and differences."""
    status = reader.status
    unfinished = "" if status == "done" else f"The run is {status}. "
    pooled = "" if config.pool == 1 else f", {config.pool} x {config.pool} pixels averaged into one"
    reused = "" if config.nets_of is None else f", networks of {config.nets_of} reused where they are the same"
    training, measuring = _minutes_spent(reader)
    facts = {
        "scale": config.scale,
        "data": f"{config.data}{pooled}; {setting_in_words(config.examples)} training and "
        f"{setting_in_words(config.test_examples)} test examples",
        **page.facts,
        "training": f"{config.epochs} epochs of SGD, batches of {config.batch}, rate {config.learning_rate:g}, "
        f"momentum {config.momentum:g}, weight decay {config.weight_decay:g}",
        "seeds": f"{config.seeds}, starting with seed {config.seed}",
    }
    return replace(
        page,
        lead=unfinished + (page.lead or "No network has been measured yet."),
        facts=facts,
        cost=f"{training:.1f} minutes of training, {measuring:.1f} of measuring{reused}",
        differs=[*differences(config, paper), *page.differs],
    )


def _minutes_spent(reader: RunReader) -> tuple[float, float]:
    """Return the time spent on training and on measuring so far, in minutes."""
    table = reader.table(quantity="seconds")
    spent = {True: 0.0, False: 0.0}
    for step, seconds in zip(table["step"], table["value"], strict=True):
        spent[int(step) > 0] += float(seconds) / 60
    return spent[True], spent[False]


# --- its trained networks


def _stored_nets(
    reader: RunReader,
    config: ImageConfig,
    measurements: Sequence[Measurement],
    open_net: Callable[[nn.Module, ImageParts], Dissection],
) -> list[StoredNet]:
    known = {each.net.checkpoint: each.net for each in measurements}
    done = [name for name in reader.checkpoints() if name in known]
    finished = [name for name in done if (reader.load(name).state or {}).get("epoch") == config.epochs]

    def open_stored(net: Net, root: Path | None, download: bool) -> OpenedNet:
        here = on_this_machine(config, root, download)
        parts = load_images(here)
        dissection = open_net(trained_net(here, net, parts, reader), parts)
        return OpenedNet(dissection, parts.test, has_shortcuts(dissection))

    return [
        StoredNet(
            name,
            f"{known[name].name} network of seed {known[name].seed}, trained {config.epochs} epochs on {config.data}",
            partial(open_stored, known[name]),
        )
        for name in sorted(finished)
    ]
