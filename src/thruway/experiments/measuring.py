"""A study that trains nets and measures them: what it is made of, its run, and its rows read back."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from thruway.errors import CheckpointError
from thruway.experiments.experiment import Progress
from thruway.experiments.image_parts import Parts
from thruway.experiments.image_study import ImageStudy
from thruway.experiments.net_training import Net, epochs_left, train_net, trained
from thruway.runs import Run, RunReader

__all__ = ["Measurement", "minutes_spent", "read_rows", "run_measurements"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Measurement:
    """Something found out about one trained net.

    Attributes:
        name: of what is measured, such as "delete_one".
        net: on which.
        measure: (net, data) -> rows of plain numbers and words; it leaves the net as it is.
        cost: the work, in the unit of `Net.cost`.
    """

    name: str
    net: Net
    measure: Callable[[nn.Module, Parts], list[Row]]
    cost: float = 1.0

    @property
    def checkpoint(self) -> str:
        """Where its rows are kept."""
        return f"{self.name}-{self.net.name}-{self.net.seed}"


def run_measurements(
    config: ImageStudy, measurements: Sequence[Measurement], parts: Parts, run: Run, progress: Progress
) -> None:
    """Train every net that is measured, and measure it, or what is left of both, into the run folder.

    Every row gets the name and the seed of its net. A measurement is kept whole or not at all.
    """
    nets = list({each.net.checkpoint: each.net for each in measurements}.values())
    done = run.checkpoints()
    left = [each for each in measurements if each.checkpoint not in done]
    examples = len(parts.train)
    to_train = sum(net.cost * examples * epochs_left(config, net, run) for net in nets)
    progress.begin(max(1.0, to_train + sum(each.cost for each in left)))
    for net in nets:
        if epochs_left(config, net, run):
            train_net(config, net, parts, run, progress)
        mine = [each for each in left if each.net.checkpoint == net.checkpoint]
        if mine:
            model = trained(config, net, parts, run)
        for each in mine:
            started = time.monotonic()
            rows = [{"net": net.name, "seed": net.seed, **row} for row in each.measure(model, parts)]
            run.log(0, {"seconds": time.monotonic() - started}, site=f"{each.name}/{net.name}", member=net.seed)
            run.save(each.checkpoint, {}, state={"rows": rows})
            progress.advance(each.cost, f"{net.name}, seed {net.seed}, {each.name.replace('_', ' ')}")


def read_rows(reader: RunReader, measurements: Iterable[Measurement]) -> list[Row]:
    """The rows of every measurement that has been made, in the order of the measurements."""
    done = set(reader.checkpoints())
    rows: list[Row] = []
    for each in measurements:
        if each.checkpoint in done:
            state = reader.load(each.checkpoint).state
            if state is None or "rows" not in state:
                raise CheckpointError(f"the checkpoint {each.checkpoint!r} holds no rows. Remove it to measure again.")
            rows += state["rows"]
    return rows


def minutes_spent(reader: RunReader) -> tuple[float, float]:
    """Minutes of training, and of measuring, so far."""
    table = reader.table(quantity="seconds")
    steps = zip(table["step"], table["value"], strict=True)
    spent = {True: 0.0, False: 0.0}
    for step, seconds in steps:
        spent[int(step) > 0] += float(seconds) / 60
    return spent[True], spent[False]
