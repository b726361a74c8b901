"""Trial of the cures that findings suggest: `tw.prescribe(build, batches, findings, loss=loss)`."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from thruway.diagnosing.diagnosis import Diagnosis
from thruway.diagnosing.finding import Finding
from thruway.diagnosing.prescribing.arguments import check_batches, check_findings, check_loss, check_seeds
from thruway.diagnosing.prescribing.arms import TrialArm, Workshop, arms_of
from thruway.diagnosing.prescribing.intervals import paired_interval
from thruway.diagnosing.prescribing.prescription import Prescription
from thruway.diagnosing.prescribing.ranking import best_of, gain_of, ranked
from thruway.diagnosing.prescribing.rediagnosing import WATCHED, every_rule
from thruway.diagnosing.prescribing.run import Plan, Results, Run
from thruway.diagnosing.prescribing.setup import Build, check_build
from thruway.diagnosing.prescribing.training import train_runs
from thruway.diagnosing.prescribing.trial import Trial
from thruway.errors import ConfigError
from thruway.nn.checks import check_size
from thruway.progress import show_progress

__all__ = ["prescribe"]

_MEASURED = 2  # batches


def prescribe(
    build: Build,
    batches: Iterable[tuple[Any, Any]],
    findings: Diagnosis | Finding | Sequence[Finding],
    *,
    loss: Callable[[Any, Any], Tensor],
    steps: int = 200,
    seeds: int | Sequence[int] = 3,
    progress: bool = True,
) -> Prescription:
    """Try the cures that findings suggest, and rank them by the loss that each gains.

    Every cure, no change, and a placebo (a cure of another symptom) are trained with the same seeds on the same
    batches. Runs of one architecture are trained together in vectorised steps. On Linux and without a GPU, the runs of
    all but short trials are shared among as many forked processes as PyTorch has threads: call torch.set_num_threads(1)
    to train all in this process. A cure is compared with no change of the same seed, and its first run is diagnosed
    again. Nothing is trained without findings.

    `loss` and the models run in the forked processes, so that their side effects, such as appending to a list, are
    lost. With dropout, or other random numbers in the models or the loss, the results depend on the number of threads,
    because runs that are trained together draw their numbers together. Do not call `prescribe` in two threads at once:
    it seeds the global generators.

    The loss is measured on the first batches, without dropout. The final loss is its mean over the last tenth of the
    steps. The user's generators, models and batches are left as they are.

    Args:
        build: function that returns a new model, or (model, optimizer). It takes a seed, or draws from the global
            generators, which are seeded for the call and restored. Without an optimizer, SGD with a learning rate of
            0.1 is used. If the finding "gradients_accumulate" is among the findings, the unchanged loop calls no
            zero_grad().
        batches: pairs (inputs, targets), of which at most `steps` are read; fewer are repeated. Inputs are a tensor, a
            tuple of positional arguments, or a dict of keyword arguments.
        findings: a diagnosis or findings; their cures are tried.
        loss: function of (outputs, targets) that returns a scalar.
        steps: number of training steps of every run.
        seeds: number of seeds, at least 2, or the seeds.
        progress: show the progress on stderr.
    Returns:
        The prescription: `best`, `ranking`, and the code of each change.
    Raises:
        ConfigError: if an argument is invalid, or the unchanged model cannot be trained.
        RuntimeError: if one of the processes is killed, for example because there is no memory left, or if
            `loss` or a model ends it, for example by sys.exit().
    Source:
        Ours; the interval of paired differences is Student's.

    >>> import torch
    >>> from torch.nn import Linear, Sequential, functional
    >>> from thruway.diagnosing import CURES, Finding
    >>> def build():
    ...     model = Sequential(Linear(2, 8), torch.nn.ReLU(), Linear(8, 2))
    ...     return model, torch.optim.SGD(model.parameters(), lr=1e-4)
    >>> x = torch.randn(32, 2, generator=torch.Generator().manual_seed(0))
    >>> slow = Finding("lr_too_low", "The learning rate is too low.", since=(None, 0), cures=(CURES["raise_lr"],))
    >>> batches = [(x, (x[:, 0] > 0).long())]
    >>> result = prescribe(build, batches, [slow], loss=functional.cross_entropy, steps=20, progress=False)
    >>> [trial.arm for trial in result.trials()]
    ['cure', 'no change', 'placebo']
    """
    takes_seed = check_build(build)
    found = check_findings(findings)
    check_loss(loss)
    check_size("steps", steps)
    chosen = check_seeds(seeds)
    if not found:
        return Prescription(_name_of(findings), ())
    taken = check_batches(batches, steps)
    started = time.perf_counter()
    zero_grad = "gradients_accumulate" not in every_rule(found)
    workshop = Workshop(build, takes_seed, taken, loss, zero_grad, chosen)
    arms = arms_of(workshop, found)
    # The last tenth is measured three times.
    points = tuple(sorted({round(share * steps / 20) for share in (*range(0, 21, 2), 19)}))
    snapshots = tuple(sorted({0, steps // 2, max(steps - WATCHED, 0)}))
    plan = Plan(taken, loss, steps, min(len(taken), _MEASURED), points, snapshots)
    runs = {arm.cure.name: _runs(workshop, arm) for arm in arms if not arm.reason}
    total = steps * len(chosen) * len(runs)
    with show_progress(f"prescribe, {len(runs)} changes", total, shown=progress) as advance:
        train_runs([run for group in runs.values() for run in group], plan, advance)
    trials = _trials(arms, runs, plan, found)
    by_arm = {kind: [trial for trial in trials if trial.arm == kind] for kind in ("cure", "no change", "placebo")}
    placebo = by_arm["placebo"][0] if by_arm["placebo"] else None
    ranking = ranked(by_arm["cure"])
    return Prescription(
        type(workshop.reference).__name__,
        found,
        ranking,
        best_of(ranking, placebo),
        by_arm["no change"][0],
        placebo,
        chosen,
        steps,
        time.perf_counter() - started,
    )


def _name_of(findings: Any) -> str:
    return findings.trace.model if isinstance(findings, Diagnosis) else "the model"


def _runs(workshop: Workshop, arm: TrialArm) -> list[Run]:
    return [
        Run(arm.cure.name, seed, workshop.setup(arm.cure, arm.arm, seed).setup, arm.spare if place == 0 else None)
        for place, seed in enumerate(workshop.seeds)
    ]


def _trials(
    arms: Sequence[TrialArm], runs: dict[str, list[Run]], plan: Plan, findings: Sequence[Finding]
) -> list[Trial]:
    """Return one trial per arm; the first one is no change."""
    results = {name: [run.results for run in own] for name, own in runs.items()}
    unchanged = results[arms[0].cure.name]
    failed = next((result.error for result in unchanged if result.error), "")
    if failed:
        raise ConfigError(f"a training step of the unchanged model failed: {failed}")
    wanted = {finding.rule for finding in findings}
    first_losses = np.stack(
        [[result.curve[0] for result in own] for own in results.values() if not any(r.error for r in own)]
    )
    starts = np.where(np.isfinite(first_losses), first_losses, np.inf).min(axis=0)
    trials: list[Trial] = []
    for arm in arms:
        own = results.get(arm.cure.name, [])
        reason = arm.reason or next((f"a training step failed: {result.error}" for result in own if result.error), "")
        if reason:
            trials.append(Trial(arm.cure, arm.arm, False, reason))
            continue
        remaining = own[0].remaining
        # Findings that do not show in the unchanged run either cannot be said to be cleared.
        shown = wanted & every_rule(trials[0].remaining if trials else remaining)
        first, final = [result.curve[0] for result in own], [_final(result, plan) for result in own]
        gains = tuple(
            gain_of(start, _final(before, plan), last)
            for start, before, last in zip(starts, unchanged, final, strict=True)
        )
        cleared = not shown & every_rule(remaining) if shown else None
        trials.append(
            Trial(
                arm.cure,
                arm.arm,
                first=tuple(map(float, first)),
                final=tuple(map(float, final)),
                gains=gains,
                interval=paired_interval(gains),
                curves=np.stack([result.curve for result in own]),
                points=plan.points,
                losses=np.stack([result.losses for result in own]),
                remaining=remaining,
                cleared=False if math.isnan(final[0]) else cleared,
                diff=arm.diff,
                code=arm.code,
                note=own[0].note,
            )
        )
    return trials


def _final(result: Results, plan: Plan) -> float:
    """Return the mean measured loss over the last tenth of the steps."""
    last = [place for place, point in enumerate(plan.points) if point >= plan.steps - plan.steps // 10]
    return float(result.curve[last].mean())
