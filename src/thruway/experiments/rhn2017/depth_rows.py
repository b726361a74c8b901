"""The nets of the study as rows, and how they learnt, read back from the run folder."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from thruway.experiments.rhn2017.depth import Config
from thruway.experiments.rhn2017.depth_net import parameters_of, width_for
from thruway.experiments.rhn2017.depth_training import Net, nets
from thruway.runs import RunReader

__all__ = ["Rows", "by_depth", "read_courses", "read_rows", "read_text"]

Rows = Sequence[Mapping[str, Any]]

# quantity -> its value after epoch 1, 2, ...
Course = dict[str, dict[int, float]]


def read_text(reader: RunReader) -> dict[str, Any]:
    """Which text was read: characters, symbols, sha256, python; empty before the run has begun."""
    return dict(reader.load("text").state or {}) if "text" in reader.checkpoints() else {}


def read_courses(reader: RunReader, config: Config) -> dict[Net, Course]:
    """train_bits, valid_bits, test_bits and seconds of every net, epoch by epoch, as far as it has come."""
    table = reader.table()
    courses: dict[Net, Course] = {net: {} for net in nets(config)}
    of_site = {(net.site, net.seed): course for net, course in courses.items()}
    columns = (table[name] for name in ("site", "member", "step", "quantity", "value"))
    for site, member, step, quantity, value in zip(*columns, strict=True):
        # A killed and resumed run logs some epochs twice, with the same numbers.
        of_site[str(site), int(member)].setdefault(str(quantity), {})[int(step)] = float(value)
    return {net: course for net, course in courses.items() if course}


def read_rows(reader: RunReader, config: Config) -> list[dict[str, Any]]:
    """One row per net that is trained to the end; its bits are those of the epoch with the best validation."""
    text = read_text(reader)
    rows = []
    for net, course in read_courses(reader, config).items():
        if config.epochs not in course.get("test_bits", {}):
            continue
        valid = {epoch: bits for epoch, bits in course["valid_bits"].items() if math.isfinite(bits)}
        best = min(valid, key=lambda epoch: valid[epoch], default=config.epochs)
        width = width_for(config.parameters, text["symbols"], config.embedding, net.depth)
        rows.append(
            {
                "depth": net.depth,
                "width": width,
                "parameters": parameters_of(text["symbols"], config.embedding, width, net.depth),
                "seed": net.seed,
                "epochs": config.epochs,
                "best_epoch": best,
                "train_bits": course["train_bits"][config.epochs],
                "valid_bits": course["valid_bits"][best],
                "test_bits": course["test_bits"][best],
                "seconds": course["seconds"][config.epochs],
            }
        )
    return rows


def by_depth(rows: Rows, key: str) -> dict[int, list[float]]:
    """depth -> the values of its seeds, shallow ones first.

    >>> by_depth([{"depth": 4, "x": 2.0}, {"depth": 1, "x": 3.0}, {"depth": 4, "x": 1.0}], "x")
    {1: [3.0], 4: [2.0, 1.0]}
    """
    found: dict[int, list[float]] = {}
    for row in sorted(rows, key=lambda row: row["depth"]):
        found.setdefault(row["depth"], []).append(row[key])
    return found
