"""Training and watching every net of the study into its run folder, and going on where that stopped."""

import time
from typing import Any

import torch
from torch.nn import functional as F

from thruway.errors import CheckpointError, RunError
from thruway.experiments.experiment import Progress
from thruway.experiments.glorot2010.saturation import Case, Config, cases
from thruway.experiments.glorot2010.saturation_data import Parts, stream
from thruway.experiments.glorot2010.saturation_watching import WATCHED, log_histograms, log_layers
from thruway.init import initialize
from thruway.networks import mlp
from thruway.networks.mlp import MLP
from thruway.runs import Run
from thruway.seeding import generator
from thruway.watching import Trace, watch

__all__ = ["new_net", "run_study", "train_case"]

# A checkpoint at least this often; what a kill -9 can cost.
_SAVE_EVERY_S = 60.0
_DRAWN_AT_ONCE = 500  # updates: their examples lie in memory


def run_study(config: Config, parts: Parts, run: Run, progress: Progress) -> None:
    """Train and watch every net, or what is left of it, into the run folder."""
    done = {case: _state_of(case, run) for case in cases(config)}
    progress.begin(max(1, sum(case.updates - state["update"] for case, state in done.items())))
    for case, state in done.items():
        if state["update"] < case.updates:
            train_case(config, case, parts, run, progress)


def new_net(config: Config, case: Case, parts: Parts) -> MLP:
    """A net with its initial weights; those of one seed start from the same draws, scaled as their scheme says."""
    net = mlp(
        "plain",
        case.net.depth,
        config.width,
        parts.inputs,
        parts.classes,
        activation=case.net.activation,
        generator=generator(case.seed, "weights"),
    )
    initialize(net, case.net.scheme, generator=generator(case.seed, "weights"))
    return net.to(config.device)


def train_case(config: Config, case: Case, parts: Parts, run: Run, progress: Progress) -> None:
    """Train one net to the end, from its checkpoint if there is one."""
    net = new_net(config, case, parts)
    done, seconds = _restore(case, net, run)
    optimizer = torch.optim.SGD(net.parameters(), lr=case.rate)
    stops, saved_at, logged = set(case.stops), time.monotonic(), done - 1
    with watch(net, stops.__contains__, WATCHED, optimizer, probe=parts.probe, first_step=done) as trace:
        for end in (stop for stop in case.stops if stop > done):
            started = time.monotonic()
            loss = _train(config, case, net, optimizer, parts, done, end)
            seconds += time.monotonic() - started
            run.log(end, {"training_loss": loss}, site=case.name, member=case.member)
            advanced, done = end - done, end
            is_finished = done == case.updates
            if is_finished:
                log_histograms(run, case, _seen(trace))
                told = {"learning_rate": case.rate, "seed": float(case.seed), "seconds": seconds}
                run.log(done, told, site=case.name, member=case.member)
            if is_finished or time.monotonic() - saved_at > _SAVE_EVERY_S:
                logged = _save(case, net, run, _seen(trace), logged, done, seconds)
                saved_at = time.monotonic()
            try:
                progress.advance(advanced, f"{case.net.title}, seed {case.seed}, update {done}")
            except KeyboardInterrupt:
                # Only here: an interrupt between two looks leaves weights that belong to none.
                _save(case, net, run, _seen(trace), logged, done, seconds)
                raise


def _train(
    config: Config, case: Case, net: MLP, optimizer: torch.optim.SGD, parts: Parts, first: int, end: int
) -> float:
    """Updates first .. end; the mean training loss in them."""
    total = torch.zeros((), dtype=torch.float64, device=parts.probe.device)
    for start in range(first, end, _DRAWN_AT_ONCE):
        count = min(_DRAWN_AT_ONCE, end - start)
        inputs, labels = parts.source.draw(stream("train", case.seed), start * config.batch, count * config.batch)
        for batch, targets in zip(inputs.view(count, config.batch, -1), labels.view(count, -1), strict=True):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(batch), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.detach()
    return float(total) / (end - first)


def _seen(trace: Trace) -> Trace:
    """What was seen of the probe."""
    if trace.failure is not None:
        raise RunError("the layers could not be watched to the end, so there is nothing to judge.") from trace.failure
    if trace.probe is None:
        raise RunError("the layers were not watched on the fixed examples.")
    return trace.probe


def _save(case: Case, net: MLP, run: Run, seen: Trace, since: int, done: int, seconds: float) -> int:
    """Write what was seen after `since`, and then how far the net is; returns the last step that is written."""
    log_layers(run, case, seen, since)
    run.save(case.checkpoint, net.state_dict(), state={"update": done, "seconds": seconds})
    return done


def _state_of(case: Case, run: Run) -> dict[str, Any]:
    """How far a net is: updates done, and seconds spent."""
    state: dict[str, Any] = {"update": 0, "seconds": 0.0}
    if case.checkpoint in run.checkpoints():
        found = run.load(case.checkpoint).state
        if found is None:
            raise CheckpointError(
                f"the checkpoint {case.checkpoint!r} does not say how far it is. Remove it to train this part again."
            )
        state |= found
    return state


def _restore(case: Case, net: MLP, run: Run) -> tuple[int, float]:
    """(updates done, seconds spent) of a net, and its weights into the model."""
    state = _state_of(case, run)
    if state["update"]:
        net.load_state_dict(run.load(case.checkpoint).tensors)
    return int(state["update"]), float(state["seconds"])
