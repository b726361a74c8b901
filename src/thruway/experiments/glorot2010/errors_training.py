"""Running the study into its run folder, stage by stage, and going on where that stopped."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from thruway.errors import CheckpointError
from thruway.experiments.experiment import Progress
from thruway.experiments.glorot2010.errors import Choice, Config, Net, choose
from thruway.experiments.glorot2010.errors_data import Parts
from thruway.experiments.glorot2010.errors_nets import PlainNets, error_rates
from thruway.experiments.glorot2010.errors_pretraining import pretrain, pretraining_work
from thruway.experiments.glorot2010.errors_stages import (
    Group,
    Stage,
    build_nets,
    chunk,
    groups,
    pieces,
    stages_of,
    work,
)
from thruway.experiments.glorot2010.errors_svm import fit_svms, svm_work
from thruway.runs import Run

__all__ = ["run_study", "train_stage"]

# A checkpoint at least this often; what a kill -9 can cost.
_SAVE_EVERY_S = 60.0

Measured = list[dict[str, list[float]]]
"""By group: quantity -> one number per net."""


def run_study(config: Config, parts: Parts, run: Run, progress: Progress) -> None:
    """Pre-train, search, train, and measure beside the SVM; or what is left of it."""
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


def train_stage(
    config: Config, stage: Stage, parts: Parts, pretrained: Mapping[str, Tensor], run: Run, progress: Progress
) -> dict[Net, float]:
    """Train the nets of a stage to the end, from its checkpoint if there is one; their validation errors there."""
    made = groups(stage.nets)
    nets = [build_nets(config, group, parts, pretrained) for group in made]
    done, seconds = _restore(stage, nets, run)
    saved_at = time.monotonic()
    for first, end, is_evaluated in pieces(stage.updates, config.evaluations, done):
        _train(config, stage, made, nets, seconds, first, end)
        if is_evaluated:
            _log(made, _measured(stage, nets), run, end)
        if time.monotonic() - saved_at > _SAVE_EVERY_S:
            _save(stage, nets, run, end, seconds)
            saved_at = time.monotonic()
        try:
            spent = work(config, stage, parts, first, end, is_evaluated)
            progress.advance(spent, f"{stage.name}, update {end} of {stage.updates}")
        except KeyboardInterrupt:
            # Only here: an interrupt inside a piece leaves weights that belong to no update.
            _save(stage, nets, run, end, seconds)
            raise
    _log_end(stage, made, seconds, run)
    if stage.name == "final":
        _log_rivals(config, stage, made, nets, parts, run)
    _save(stage, nets, run, stage.updates, seconds)
    measured = _measured(stage, nets)
    return {
        net: values["valid_error"][place]
        for group, values in zip(made, measured, strict=True)
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
    """Updates first .. end of every group, on examples that are drawn once for all; each net sees its seed's."""
    places, inputs, labels = chunk(stage, config, first, end)
    for number, (group, members) in enumerate(zip(made, nets, strict=True)):
        started = time.monotonic()
        where = torch.tensor([places[net.seed] for net in group.nets], device=labels.device)
        for batch, targets in zip(inputs, labels, strict=True):
            members.step(batch[where], targets[where])
        seconds[number] += time.monotonic() - started


def _measured(stage: Stage, nets: Sequence[PlainNets]) -> Measured:
    return [
        {name: error_rates(members.outputs(x), y).tolist() for name, (x, y) in stage.measured.items()}
        for members in nets
    ]


def _log(made: Sequence[Group], measured: Measured, run: Run, step: int) -> None:
    for group, values in zip(made, measured, strict=True):
        for place, net in enumerate(group.nets):
            run.log(step, {name: each[place] for name, each in values.items()}, site=net.site, member=net.member)


def _log_end(stage: Stage, made: Sequence[Group], seconds: Sequence[float], run: Run) -> None:
    """What a net was, and what it cost."""
    for group, spent in zip(made, seconds, strict=True):
        for net in group.nets:
            told = {"learning_rate": net.rate, "seed": float(net.seed), "seconds": spent / len(group.nets)}
            run.log(stage.updates, told, site=net.site, member=net.member)
    run.flush()


def _log_rivals(
    config: Config, stage: Stage, made: Sequence[Group], nets: Sequence[PlainNets], parts: Parts, run: Run
) -> None:
    """For every two pairs at the greatest depth, how many test examples one gets right and the other wrong."""
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


def _work_left(config: Config, parts: Parts, run: Run) -> float:
    """In weights updated by one batch."""
    total = pretraining_work(config, parts, run) + svm_work(config, parts, run)
    guess: dict[str, Choice] = {pair: Choice(config.deepest, 1.0, 1.0) for pair in config.pairs}
    for stage in stages_of(config, parts, guess).values():
        done = int(_state_of(stage.name, run)["update"])
        for first, end, is_evaluated in pieces(stage.updates, config.evaluations, done):
            total += work(config, stage, parts, first, end, is_evaluated)
    return max(total, 1.0)


def _save(stage: Stage, nets: Sequence[PlainNets], run: Run, done: int, seconds: Sequence[float]) -> None:
    tensors = {f"{number}/{name}": t for number, each in enumerate(nets) for name, t in each.tensors().items()}
    run.save(stage.name, tensors, state={"update": done, "seconds": list(seconds), "nets": _names(stage)})


def _names(stage: Stage) -> list[str]:
    return [f"{net.site} {net.member} {net.rate!r}" for net in stage.nets]


def _state_of(name: str, run: Run) -> dict[str, Any]:
    """How far a stage is: updates done, seconds spent by group, and of which nets."""
    if name not in run.checkpoints():
        return {"update": 0}
    found = run.load(name).state
    if found is None:
        raise CheckpointError(
            f"the checkpoint {name!r} does not say how far it is. Remove it to train this part again."
        )
    return dict(found)


def _restore(stage: Stage, nets: Sequence[PlainNets], run: Run) -> tuple[int, list[float]]:
    """(updates done, seconds spent by group) of a stage, and its weights into the nets."""
    state = _state_of(stage.name, run)
    if not state["update"]:
        return 0, [0.0] * len(nets)
    if state["nets"] != _names(stage):
        raise CheckpointError(f"the checkpoint {stage.name!r} is of other nets. Remove it to train them again.")
    tensors = run.load(stage.name).tensors
    for number, each in enumerate(nets):
        mine = f"{number}/"
        each.load({name.removeprefix(mine): t for name, t in tensors.items() if name.startswith(mine)})
    return int(state["update"]), [float(each) for each in state["seconds"]]
