"""Run of the study, stage by stage, and functions that read its results from the run folder."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from thruway.errors import CheckpointError
from thruway.experiments.glorot2010.errors import FIXED_PAIR, Choice, Config, Net, choose
from thruway.experiments.glorot2010.errors_stages import (
    SAVE_EVERY_S,
    Group,
    Stage,
    build_nets,
    chunk,
    fit_svms,
    groups,
    pieces,
    pretrain,
    pretraining_work,
    stages_of,
    svm_work,
    work,
)
from thruway.experiments.glorot2010.streams import Parts
from thruway.experiments.machinery import Progress
from thruway.experiments.machinery.resumable import run_resumable, saved_state
from thruway.experiments.methods import PlainNets, error_rates
from thruway.runs import Run, RunReader

__all__ = [
    "read_majority_error",
    "read_rivals",
    "read_rows",
    "read_search",
    "read_tested",
    "run_study",
    "train_stage",
]


def run_study(config: Config, parts: Parts, run: Run, progress: Progress) -> None:
    """Pre-train, search, train, and fit the SVMs; a resumed run does the remaining work."""
    run.log(0, {"majority_error": parts.majority_error}, site="data")
    progress.begin(_work_left(config, parts, run))
    pretrained = pretrain(config, parts, run, progress)
    search = stages_of(config, parts, None)["search"]
    errors = train_stage(config, search, parts, pretrained, run, progress)
    chosen = choose(search.nets, [errors[net] for net in search.nets])
    for pair, choice in chosen.items():
        run.log(0, {name: float(value) for name, value in choice._asdict().items()}, site=f"chosen/{pair}")
    for name, stage in stages_of(config, parts, chosen).items():
        if name != "search":
            train_stage(config, stage, parts, pretrained, run, progress)
    fit_svms(config, parts, run, progress)


def _work_left(config: Config, parts: Parts, run: Run) -> float:
    total = pretraining_work(config, parts, run) + svm_work(config, parts, run)
    guess: dict[str, Choice] = {pair: Choice(config.deepest, 1.0, 1.0) for pair in config.pairs}
    for stage in stages_of(config, parts, guess).values():
        done = int(saved_state(run, stage.name, update=0)["update"])
        for first, end, is_evaluated in pieces(stage.updates, config.evaluations, done):
            total += work(config, stage, parts, first, end, is_evaluated)
    return max(total, 1.0)


def train_stage(
    config: Config, stage: Stage, parts: Parts, pretrained: Mapping[str, Tensor], run: Run, progress: Progress
) -> dict[Net, float]:
    """Train the networks of a stage, resuming from its checkpoint, and return their validation errors."""
    made = groups(stage.nets)
    nets = [build_nets(config, group, parts, pretrained) for group in made]
    names = [f"{net.site} {net.member} {net.rate!r}" for net in stage.nets]
    state = saved_state(run, stage.name, update=0, seconds=[0.0] * len(made), nets=names)
    if state["update"]:
        if state["nets"] != names:
            raise CheckpointError(
                f"the checkpoint {stage.name!r} belongs to other networks. Remove it to train them again."
            )
        tensors = run.load(stage.name).tensors
        for number, each in enumerate(nets):
            mine = f"{number}/"
            each.load({name.removeprefix(mine): t for name, t in tensors.items() if name.startswith(mine)})

    def steps() -> Iterator[tuple[float, str]]:
        for first, end, is_evaluated in pieces(stage.updates, config.evaluations, int(state["update"])):
            _train(config, stage, made, nets, state["seconds"], first, end)
            if is_evaluated:
                _log_errors(made, _errors(stage, nets), run, end)
            state["update"] = end
            yield work(config, stage, parts, first, end, is_evaluated), f"{stage.name}, update {end} of {stage.updates}"
        _log_end(stage, made, state["seconds"], run)
        if stage.name == "final":
            _log_rivals(config, stage, made, nets, parts, run)

    def save() -> None:
        tensors = {f"{number}/{name}": t for number, each in enumerate(nets) for name, t in each.tensors().items()}
        run.save(stage.name, tensors, state=state)

    run_resumable(steps(), save, progress, SAVE_EVERY_S)
    return {
        net: values["valid_error"][place]
        for group, values in zip(made, _errors(stage, nets), strict=True)
        for place, net in enumerate(group.nets)
    }


def _train(
    config: Config,
    stage: Stage,
    made: Sequence[Group],
    nets: Sequence[PlainNets],
    seconds: list[float],
    first: int,
    end: int,
) -> None:
    """Make updates first .. end of every group, on examples drawn once per seed."""
    places, inputs, labels = chunk(stage, config, first, end)
    for number, (group, members) in enumerate(zip(made, nets, strict=True)):
        started = time.monotonic()
        where = torch.tensor([places[net.seed] for net in group.nets], device=labels.device)
        for batch, targets in zip(inputs, labels, strict=True):
            members.step(batch[where], targets[where])
        seconds[number] += time.monotonic() - started


def _errors(stage: Stage, nets: Sequence[PlainNets]) -> list[dict[str, list[float]]]:
    """Return the errors of each group: for each quantity, one number per network."""
    return [
        {name: error_rates(members.outputs(x), y).tolist() for name, (x, y) in stage.measured.items()}
        for members in nets
    ]


def _log_errors(made: Sequence[Group], errors: Sequence[Mapping[str, Sequence[float]]], run: Run, step: int) -> None:
    for group, values in zip(made, errors, strict=True):
        for place, net in enumerate(group.nets):
            run.log(step, {name: each[place] for name, each in values.items()}, site=net.site, member=net.member)


def _log_end(stage: Stage, made: Sequence[Group], seconds: Sequence[float], run: Run) -> None:
    for group, spent in zip(made, seconds, strict=True):
        for net in group.nets:
            settings = {"learning_rate": net.rate, "seed": float(net.seed), "seconds": spent / len(group.nets)}
            run.log(stage.updates, settings, site=net.site, member=net.member)
    run.flush()


def _log_rivals(
    config: Config, stage: Stage, made: Sequence[Group], nets: Sequence[PlainNets], parts: Parts, run: Run
) -> None:
    """Log, for all pairs of pairs at the greatest depth, how many test examples only the first classifies correctly."""
    is_right: dict[tuple[str, int], Tensor] = {}
    inputs, labels = parts.test
    for group, members in zip(made, nets, strict=True):
        if group.depth == config.deepest:
            right = (members.outputs(inputs).argmax(dim=-1) == labels).cpu()
            is_right |= {(net.pair, net.member): right[place] for place, net in enumerate(group.nets)}
    for (pair, member), mine in is_right.items():
        counts = {
            f"right_where_wrong/{other}": float((mine & ~theirs).sum())
            for (other, number), theirs in is_right.items()
            if number == member and other != pair
        }
        if counts:
            run.log(stage.updates, counts, site=f"rivals/{pair}", member=member)
    run.flush()


# --- results read back

Row = dict[str, Any]
Values = Mapping[str, float]


def read_rows(reader: RunReader, config: Config) -> list[Row]:
    """Return one row per tested network, followed by one row per network of the search."""
    return read_tested(reader, config) + read_search(reader, config)


def read_tested(reader: RunReader, config: Config) -> list[Row]:
    """Return one row per tested network: those of Table 1 (stage "final"), and those compared with the SVM ("fixed").

    Stage "fixed" has one row per seed: the network with the learning rate, and at the update, with the lowest
    validation error.
    """
    return _final_rows(reader, config) + _fixed_rows(reader, config)


def read_search(reader: RunReader, config: Config) -> list[Row]:
    """Return one row per network of the search: pair, depth, learning rate and final validation error."""
    ends = _ends(reader, "search/", ("valid_error", "learning_rate", "seconds"), config.search_updates)
    rows = [_row("search", site, values, config.search_updates, config) for (site, _), values in ends.items()]
    return [row for row in rows if row["learning_rate"] is not None]


def read_rivals(reader: RunReader) -> dict[tuple[str, str], list[int]]:
    """Return, for each (pair, other), the number of test examples per seed that only the first classifies correctly."""
    counts: dict[tuple[str, str], dict[int, int]] = {}
    for entry in reader.table().rows():
        if entry["site"].startswith("rivals/"):
            key = entry["site"].partition("/")[2], entry["quantity"].partition("/")[2]
            counts.setdefault(key, {})[entry["member"]] = int(entry["value"])
    return {key: [each[member] for member in sorted(each)] for key, each in counts.items()}


def read_majority_error(reader: RunReader) -> float:
    """Return the error of always predicting the most frequent class; NaN if the run has not begun."""
    table = reader.table(site="data", quantity="majority_error")
    return float(table["value"][0]) if len(table) else math.nan


def _final_rows(reader: RunReader, config: Config) -> list[Row]:
    wanted = ("valid_error", "test_error", "learning_rate", "seed", "seconds")
    chosen = {site: values["depth"] for (site, _), values in _ends(reader, "chosen/", ("depth",), 0).items()}
    rows = []
    for (site, _), values in _ends(reader, "final/", wanted, config.updates).items():
        if "seed" in values:
            row = _row("final", site, values, config.updates, config)
            rows.append(row | {"is_chosen_depth": chosen.get(f"chosen/{row['pair']}") == row["depth"]})
    return rows


def _fixed_rows(reader: RunReader, config: Config) -> list[Row]:
    site = f"fixed/{FIXED_PAIR}/{config.deepest}"
    ends = _ends(reader, site, ("learning_rate", "seed", "seconds"), config.fixed_updates)
    curves: dict[int, dict[int, dict[str, float]]] = {}
    for entry in reader.table(site=site, quantity=["valid_error", "test_error"]).rows():
        at = curves.setdefault(entry["member"], {}).setdefault(entry["step"], {})
        at[entry["quantity"]] = entry["value"]
    svm = _best_svm(reader, config)
    best: dict[float, tuple[float, Row]] = {}
    for (_, member), values in ends.items():
        step, errors = min(curves[member].items(), key=lambda entry: (_or_inf(entry[1]["valid_error"]), entry[0]))
        row = _row("fixed", site, {**values, **errors}, step, config)
        row["seconds"] = sum(other["seconds"] for other in ends.values() if other["seed"] == values["seed"])
        rank = _or_inf(errors["valid_error"])
        if values["seed"] not in best or rank < best[values["seed"]][0]:
            best[values["seed"]] = (rank, row)
    return [row | {f"svm_{name}": number for name, number in svm.items()} for _, row in best.values()]


def _best_svm(reader: RunReader, config: Config) -> dict[str, float | None]:
    """Return the SVM with the lowest validation error, if the whole grid has been fitted."""
    fits = _ends(reader, "fixed/svm", ("cost", "gamma", "valid_error", "test_error", "seconds"), 0)
    if len(fits) < len(config.svm_costs) * len(config.svm_gammas):
        return {"error": None, "cost": None, "gamma": None, "seconds": None}
    best = min(fits.values(), key=lambda fit: fit["valid_error"])
    seconds = sum(fit["seconds"] for fit in fits.values())
    return {"error": best["test_error"], "cost": best["cost"], "gamma": best["gamma"], "seconds": seconds}


def _ends(reader: RunReader, start: str, quantities: tuple[str, ...], step: int) -> dict[tuple[str, int], Values]:
    """Return the quantities at a step, by (site, member), for the sites that begin with `start`."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for entry in reader.table(quantity=quantities, steps=step).rows():
        if entry["site"].startswith(start):
            found.setdefault((entry["site"], entry["member"]), {})[entry["quantity"]] = entry["value"]
    return dict(found)


def _row(stage: str, site: str, values: Values, updates: int, config: Config) -> Row:
    _, pair, depth = site.split("/")
    errors = [values[name] for name in ("valid_error", "test_error") if name in values]
    return {
        "stage": stage,
        "pair": pair,
        "depth": int(depth),
        "width": config.width,
        "seed": int(values["seed"]) if "seed" in values else None,
        "learning_rate": values.get("learning_rate"),
        "updates": updates,
        "valid_error": values.get("valid_error", math.nan),
        "test_error": values.get("test_error", math.nan),
        "diverged": any(math.isnan(error) for error in errors),
        "seconds": values.get("seconds"),
    }


def _or_inf(error: float) -> float:
    return math.inf if math.isnan(error) else error
