"""Training of a case, watched or bare."""

import contextlib
import warnings
from collections.abc import Iterator
from unittest import mock

import torch

import thruway as tw
from tests.corpus.case import Case, Training
from thruway.errors import ConfigError
from thruway.watching import Trace


@contextlib.contextmanager
def seeded(training: Training) -> Iterator[None]:
    """Seed PyTorch's global generator for dropout and noise, and restore it afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(training.draw.number("noise"))
        yield


def watching(case: Case, training: Training, every: int) -> contextlib.AbstractContextManager[Trace]:
    """Watch the training. `tw.watch` refuses the optimizer of a copy of the model, `thruway watch` does not."""
    watched = case.watched(training.model)
    try:
        return tw.watch(watched, every, optimizer=training.optimizer)
    except ConfigError:
        with mock.patch("thruway.watching.arguments._check_optimizer"):
            return tw.watch(watched, every, optimizer=training.optimizer)


def run(case: Case, seed: int, *, watched: bool = True, every: int = 1) -> tuple[Trace | None, list[float]]:
    """Train a case and return the trace, or None if not `watched`, and the losses of all steps."""
    training = case.training(seed)
    with warnings.catch_warnings(), seeded(training):
        warnings.simplefilter("ignore")
        if not watched:
            return None, list(case.loop(training))
        with watching(case, training, every) as trace:
            losses = list(case.loop(training))
    return trace, losses
