"""Benchmark of prescribe: time of all runs together, and success of the first cure on curable runs of the corpus.

python -m benchmarks.prescribing                  prints both tables; about half an hour on two cores
python -m benchmarks.prescribing speed            only the times
python -m benchmarks.prescribing cures [case ...] only the success, of all curable cases or of some
"""

import statistics
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.measure import ratio
from benchmarks.stack import Row, verdict
from thruway.diagnosing import CURES, Finding, diagnose, prescribe
from thruway.diagnosing.prescribing.arms import Workshop, arms_of
from thruway.diagnosing.prescribing.trial import Trial
from thruway.train import keep_freed_memory

SEEDS = 3
STEPS = 200
ROUNDS = 3
DEPTH, WIDTH, INPUTS, CLASSES = 30, 50, 64, 10

# Eight changes each: those that change numbers only, and those that `diagnose` suggests for a vanishing gradient.
CHANGES = {
    "8 changes of numbers": (
        "critical_init",
        "lower_lr",
        "much_lower_lr",
        "raise_lr",
        "clip",
        "reset_bias",
        "no_change",
        "placebo",
    ),
    "8 changes, 4 of them of modules": (
        "critical_init",
        "skip",
        "highway",
        "normalise",
        "relu",
        "lower_lr",
        "no_change",
        "placebo",
    ),
}


# --- time


def net() -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a 30-layer tanh MLP and its optimizer."""
    hidden = [layer for _ in range(DEPTH - 2) for layer in (nn.Linear(WIDTH, WIDTH), nn.Tanh())]
    model = nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.Tanh(), *hidden, nn.Linear(WIDTH, CLASSES))
    return model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def data(size: int) -> list[tuple[Tensor, Tensor]]:
    """Return ten random batches."""
    made = torch.Generator().manual_seed(0)
    return [
        (torch.randn(size, INPUTS, generator=made), torch.randint(CLASSES, (size,), generator=made)) for _ in range(10)
    ]


def seconds(names: Sequence[str], size: int) -> tuple[float, float]:
    """Return the seconds of 24 runs in plain PyTorch loops, one after another, and of prescribe with the same runs."""
    batches = data(size)
    workshop = Workshop(net, False, batches, F.cross_entropy, True, range(SEEDS))
    finding = Finding(
        "vanishing_gradient", "", since=(None, 0), cures=tuple(CURES[name] for name in names if name in CURES)
    )
    arms = [arm for arm in arms_of(workshop, [finding]) if not arm.reason]
    assert len(arms) == 8, [arm.cure.name for arm in arms]
    setups = [workshop.setup(arm.cure, arm.arm, seed).setup for arm in arms for seed in range(SEEDS)]
    started = time.perf_counter()
    for setup in setups:
        for step in range(STEPS):
            x, y = batches[step % len(batches)]
            setup.optimizer.zero_grad()
            F.cross_entropy(setup.model(x), y).backward()
            if setup.clip is not None:
                nn.utils.clip_grad_norm_(setup.model.parameters(), setup.clip)
            setup.optimizer.step()
    between = time.perf_counter()
    prescribe(net, batches, [finding], loss=F.cross_entropy, steps=STEPS, seeds=SEEDS, progress=False)
    return between - started, time.perf_counter() - between


def speed() -> Iterator[Row]:
    """Yield one row for each set of changes and batch size."""
    for label, names in CHANGES.items():
        for size in (32, 64):
            pairs = [seconds(names, size) for _ in range(1 + ROUNDS)][1:]
            low, middle, high = ratio([together for _, together in pairs], [alone for alone, _ in pairs])
            yield (
                f"{label}: {DEPTH}-layer tanh MLP of width {WIDTH}, batches of {size}, {SEEDS} seeds, {STEPS} steps: "
                "time of prescribe, with curves and new diagnoses / time of the same 24 runs in plain loops",
                "<= 0.33",
                f"{middle:.2f} ({low:.2f}-{high:.2f}); {statistics.median(t for _, t in pairs):.1f} s",
                verdict(middle <= 1 / 3),
            )


# --- success


@dataclass(frozen=True)
class Outcome:
    """Outcome for one case: the first cure, its success on fresh seeds, and the share of all cures that succeed."""

    case: str
    rules: tuple[str, ...]
    first: str
    succeeded: bool
    curable: bool
    share: float


def outcome(name: str, seed: int) -> Outcome | None:
    """Prescribe for one run of the corpus, and try every cure on three fresh seeds; None without findings."""
    from tests.corpus import CASES, run
    from tests.corpus.case import Draw

    case, draw = CASES[name], Draw(name, seed)
    trace, _ = run(case, seed)
    diagnosis = diagnose(trace)
    if diagnosis.healthy:
        return None

    def build() -> tuple[nn.Module, torch.optim.Optimizer]:
        model = case.build(draw)
        return model, case.optimizer(draw, model)

    options = {"loss": losses()[case.loss], "progress": False}
    best = prescribe(build, case.data(draw), diagnosis, **options).best
    every = [replace(finding, cures=tuple(CURES.values())) for finding in diagnosis]
    fresh = prescribe(build, case.data(draw), every, seeds=(101, 102, 103), **options).ranking
    succeeded = {trial.cure.name: success(trial) for trial in fresh if trial.applicable}
    return Outcome(
        name,
        tuple(finding.rule for finding in diagnosis),
        "none" if best is None else best.cure.name,
        best is not None and succeeded.get(best.cure.name, False),
        any(succeeded.values()),
        statistics.fmean(succeeded.values()) if succeeded else 0.0,
    )


def success(trial: Trial) -> bool:
    """Return True if the cure gains 20 % of the first loss, and the findings are gone."""
    return trial.gain >= 0.2 and trial.cleared is not False


def losses() -> dict[object, object]:
    """Return the losses of outputs and targets that the losses of the corpus compute."""
    from tests.corpus import loops

    def token_loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())

    return {
        loops.cross_entropy: F.cross_entropy,
        loops.nll: F.nll_loss,
        loops.mse: F.mse_loss,
        loops.bce: F.binary_cross_entropy,
        loops.bce_logits: F.binary_cross_entropy_with_logits,
        loops.token_loss: token_loss,
    }


def sick_cases() -> list[str]:
    """Return the faulty cases whose loop and loss prescribe can run."""
    from tests.corpus import CASES
    from tests.corpus.case import plain
    from tests.corpus.loops import no_zero_grad

    known = losses()
    return [n for n, c in CASES.items() if not c.is_healthy and c.loss in known and c.loop in (plain, no_zero_grad)]


def cures(names: Sequence[str], seed: int = 5) -> Iterator[Row]:
    """Yield one row per case, and the summary over the curable ones."""
    found: list[Outcome] = []
    for name in names or sick_cases():
        try:
            result = outcome(name, seed)
        except Exception as error:
            yield (name, "", f"failed: {error}", "")
            continue
        if result is None:
            yield (name, "", "no findings", "")
            continue
        found.append(result)
        said = verdict(result.succeeded) if result.curable else "no cure of the table succeeds"
        yield (f"{name}: {', '.join(result.rules)}", "", f"{result.first}; random cure {result.share:.0%}", said)
    curable = [result for result in found if result.curable]
    if curable:
        first = statistics.fmean(result.succeeded for result in curable)
        chance = statistics.fmean(result.share for result in curable)
        yield (
            f"{len(curable)} curable runs: the first cure gains 20 % of the first loss on 3 fresh seeds and clears the "
            "findings; the same for a random applicable cure",
            ">= 85 %; <= half of it",
            f"{first:.0%}; {chance:.0%}",
            f"{verdict(first >= 0.85)}; {verdict(2 * chance <= first)}",
        )


if __name__ == "__main__":
    keep_freed_memory()
    chosen = sys.argv[1:2]
    warnings.simplefilter("ignore")
    for part, rows in (("speed", speed()), ("cures", cures(sys.argv[2:]))):
        if not chosen or chosen == [part]:
            torch.set_num_threads(2 if part == "speed" else 1)
            for row in rows:
                print("| " + " | ".join(row) + " |", flush=True)
