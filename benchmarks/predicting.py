"""Benchmark of the predicted deletions: accuracy and time, on trained nets of a run.

thruway run veit2016.lesion --scale laptop --out RUN
python -m benchmarks.predicting RUN      prints rank correlations of predicted and measured changes of the test loss
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.measure import ratio
from benchmarks.stack import Row, verdict
from thruway.dissecting import Dissection, Loss
from thruway.experiments import STUDIES
from thruway.runs import open_run

EXAMPLES = 1000
BATCH = 250
TARGET = 0.8
ROUNDS = 5


def seconds(d: Dissection, batches: list[tuple[Tensor, Tensor]]) -> tuple[list[float], list[float]]:
    """Return the seconds of predictions, and of forward and backward passes of the same batches, interleaved."""
    predicted: list[float] = []
    plain: list[float] = []
    for _ in range(1 + ROUNDS):
        started = time.perf_counter()
        d.predict_deletions(Loss(batches))
        between = time.perf_counter()
        for x, target in batches:
            torch.autograd.grad(nn.functional.cross_entropy(d.model(x), target), list(d.model.parameters()))
        predicted.append(between - started)
        plain.append(time.perf_counter() - between)
    return predicted[1:], plain[1:]


def rows(folder: Path) -> Iterator[Row]:
    """Yield one row per residual net of the run, and one with the relative time of a prediction."""
    reader = open_run(folder)
    for name, kept in STUDIES[reader.name].nets(reader).items():
        if "-resnet-" not in name:
            continue
        d, test, _ = kept.open(None, False)
        x, y = test.images[:EXAMPLES], test.labels[:EXAMPLES]
        batches = list(zip(x.split(BATCH), y.split(BATCH), strict=True))
        measured = d.delete_each(Loss(batches), resamples=2)
        predicted = d.predict_deletions(Loss(batches))
        first, curved = (predicted.agreement(measured, curved=order).rho for order in (False, True))
        yield (
            f"{kept.about}: rank correlation of {len(d.branches)} predicted and measured changes of the loss on "
            f"{len(x):,} test images, to first order; with the curvature that the same pass shows",
            f">= {TARGET}",
            f"{first:.2f}; {curved:.2f}",
            f"{verdict(first >= TARGET)}; {verdict(curved >= TARGET)}",
        )
    low, middle, high = ratio(*seconds(d, batches))
    yield (
        "time of the prediction / of one forward and one backward pass of the same batches",
        "one of each",
        f"{middle:.2f} ({low:.2f}-{high:.2f})",
        "",
    )


if __name__ == "__main__":
    torch.set_num_threads(2)
    for row in rows(Path(sys.argv[1])):
        print("| " + " | ".join(row) + " |", flush=True)
