"""Data of the corpus: digits, points, sequences and text, as lists of batches, one per step."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from tests.corpus.case import Batch, Draw
from thruway.data import load

Data = Callable[[Draw], list[Batch]]
STEPS = 40


@functools.cache
def _digits() -> Batch:
    train = load("digits")
    return train.images, train.labels


def _batches(draw: Draw, x: Tensor, y: Tensor, batch: int, steps: int) -> list[Batch]:
    """Cut shuffled epochs into batches of one size."""
    order = draw.generator("order")
    rows = torch.cat([torch.randperm(len(x), generator=order) for _ in range(-(-batch * steps // len(x)))])
    return [(x[part], y[part]) for part in rows[: batch * steps].split(batch)]


def digits(
    steps: int = STEPS,
    batch: int = 128,
    scale: float = 1.0,
    *,
    standard: bool = True,
    images: bool = False,
    targets: str = "classes",
) -> Data:
    """Return digits, flat unless `images`, standardised or in [0, 1], times `scale`.

    `targets` are "classes", "inputs" (for autoencoders), "odd" (0 or 1, as a column of floats) or "row" (tokens).
    """

    def data(draw: Draw) -> list[Batch]:
        pixels, labels = _digits()
        x = (pixels - pixels.mean()) / pixels.std() if standard else pixels
        x = scale * (x if images else x.flatten(1))
        y = {
            "classes": lambda: labels,
            "inputs": lambda: x,
            "odd": lambda: (labels % 2).float()[:, None],
        }[targets]()
        return _batches(draw, x, y, batch, steps)

    return data


def rows_of_digits(steps: int = STEPS, batch: int = 64) -> Data:
    """Return digits as sequences of eight rows with eight pixels each."""

    def data(draw: Draw) -> list[Batch]:
        pixels, labels = _digits()
        return _batches(draw, ((pixels - pixels.mean()) / pixels.std())[:, 0], labels, batch, steps)

    return data


def pixels_of_digits(steps: int = STEPS, batch: int = 64) -> Data:
    """Return digits as sequences of 64 pixels."""

    def data(draw: Draw) -> list[Batch]:
        pixels, labels = _digits()
        return _batches(draw, ((pixels - pixels.mean()) / pixels.std()).flatten(1)[..., None], labels, batch, steps)

    return data


def same_batch(data: Data) -> Data:
    """Repeat the first batch at every step."""

    def repeated(draw: Draw) -> list[Batch]:
        batches = data(draw)
        return [batches[0]] * len(batches)

    return repeated


def rings(steps: int = STEPS, batch: int = 128, *, inputs: int = 2) -> Data:
    """Return points of three concentric rings, which no linear map separates, in the first two of `inputs` features."""

    def data(draw: Draw) -> list[Batch]:
        g = draw.generator("points")
        batches = []
        for _ in range(steps):
            y = torch.randint(3, (batch,), generator=g)
            angle = 6.2832 * torch.rand(batch, generator=g)
            radius = 0.3 + y * 0.8 + 0.1 * torch.randn(batch, generator=g)
            x = torch.randn(batch, inputs, generator=g) * 0.3
            x[:, 0], x[:, 1] = radius * angle.cos(), radius * angle.sin()
            batches.append((x, y))
        return batches

    return data


def regression(
    steps: int = STEPS,
    batch: int = 128,
    *,
    inputs: int = 8,
    offset: float = 0.0,
    spread: float = 1.0,
    y_scale: float = 1.0,
) -> Data:
    """Return y = sin(w·z) + 0.5·v·z + noise for standard normal z; x = offset + spread·z."""

    def data(draw: Draw) -> list[Batch]:
        g = draw.generator("points")
        w, v = (torch.randn(inputs, generator=g) / inputs**0.5 for _ in range(2))
        batches = []
        for _ in range(steps):
            z = torch.randn(batch, inputs, generator=g)
            y = torch.sin(2 * z @ w) + 0.5 * z @ v + 0.05 * torch.randn(batch, generator=g)
            batches.append((offset + spread * z, y_scale * y[:, None]))
        return batches

    return data


def mixed_units(steps: int = STEPS, batch: int = 128, *, columns: int = 8, largest: float = 1e4) -> Data:
    """Return a table with columns in different units, as age beside income; two classes."""

    def data(draw: Draw) -> list[Batch]:
        g = draw.generator("table")
        exponents = torch.linspace(0, 1, columns)[torch.randperm(columns, generator=g)]
        units, w = largest**exponents, torch.randn(columns, generator=g)
        batches = []
        for _ in range(steps):
            z = torch.randn(batch, columns, generator=g)
            y = (z @ w + 0.3 * (z[:, 0] * z[:, 1]) > 0).long()
            # Amounts of money and counts are positive.
            batches.append(((z if largest == 1.0 else z + 2) * units, y))
        return batches

    return data


def first_token(steps: int = STEPS, batch: int = 64, *, length: int = 20, classes: int = 4, inputs: int = 8) -> Data:
    """Return noise sequences (batch, length, inputs) whose class is marked in the first element only."""

    def data(draw: Draw) -> list[Batch]:
        g = draw.generator("sequences")
        batches = []
        for _ in range(steps):
            y = torch.randint(classes, (batch,), generator=g)
            x = 0.3 * torch.randn(batch, length, inputs, generator=g)
            x[torch.arange(batch), 0, y] += 2.0
            batches.append((x, y))
        return batches

    return data


def majority(steps: int = STEPS, batch: int = 64, *, length: int = 12, classes: int = 4, inputs: int = 8) -> Data:
    """Return noise sequences whose class is marked at every element."""

    def data(draw: Draw) -> list[Batch]:
        g = draw.generator("sequences")
        batches = []
        for _ in range(steps):
            y = torch.randint(classes, (batch,), generator=g)
            x = torch.randn(batch, length, inputs, generator=g)
            x[torch.arange(batch), :, y] += 1.0
            batches.append((x, y))
        return batches

    return data


def text(steps: int = STEPS, batch: int = 32, *, length: int = 16, tokens: int = 24, used: int | None = None) -> Data:
    """Return tokens of a Markov chain, and the next token of each. Only the first `used` tokens occur."""

    def data(draw: Draw) -> list[Batch]:
        g = draw.generator("text")
        count = used or tokens
        table = torch.rand(count, count, generator=g).pow(12).add(1e-3)
        x = torch.randint(count, (steps * batch, 1), generator=g)
        for _ in range(length):
            x = torch.cat([x, torch.multinomial(table[x[:, -1]], 1, generator=g)], dim=1)
        return [(part[:, :-1], part[:, 1:]) for part in x.split(batch)]

    return data


def sorting(steps: int = STEPS, batch: int = 64, *, length: int = 8, tokens: int = 12) -> Data:
    """Return token sequences and, as targets, the same tokens in order."""

    def data(draw: Draw) -> list[Batch]:
        g = draw.generator("tokens")
        x = torch.randint(tokens, (steps, batch, length), generator=g)
        return [(part, part.sort(dim=1).values) for part in x]

    return data


def imbalanced(steps: int = STEPS, batch: int = 128, *, share: float = 0.06) -> Data:
    """Return two classes of points, one of them rare."""

    def data(draw: Draw) -> list[Batch]:
        g = draw.generator("points")
        batches = []
        for _ in range(steps):
            y = (torch.rand(batch, generator=g) < share).long()
            x = torch.randn(batch, 64, generator=g)
            x[:, :8] += 1.5 * y[:, None]
            batches.append((x, y))
        return batches

    return data
