"""Rows of the zoo: a model, its inputs, and its branches, read off its source by hand."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Expected:
    """A branch, and what the same lesion is in the model's own terms.

    `null` names modules. Of a residual branch they are those that f(x) comes out of: where they give zeros, f(x) = 0.
    Of a gated block or a layer they are the block itself: where it gives back its input, it is not there.
    "path@2" is the third call of a module that runs several times.
    """

    kind: str
    name: str
    null: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    build: Callable[[], nn.Module]
    inputs: Callable[[], Any]
    expected: tuple[Expected, ...]
    refused: tuple[str, ...] = ()  # words of reasons that a user must find, for what is there and is no branch


def identity(name: str, *null: str) -> Expected:
    return Expected("identity", name, null)


def projection(name: str, *null: str) -> Expected:
    return Expected("projection", name, null)


def gated(name: str, *null: str) -> Expected:
    return Expected("gated", name, null)


def module(name: str, *null: str) -> Expected:
    return Expected("module", name, null)


def each(places: Any, *rows: Expected) -> tuple[Expected, ...]:
    """These rows for each place, which is written {} in them."""
    return tuple(
        Expected(row.kind, row.name.format(place), tuple(null.format(place) for null in row.null))
        for place in places
        for row in rows
    )
