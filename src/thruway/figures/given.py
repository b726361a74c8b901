"""What a figure is given: numbers by layer and step, checked before anything is drawn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from thruway.errors import ConfigError, ShapeError

__all__ = ["Numbers", "Values", "by_layer", "increasing", "layer_names", "like", "numbers"]

Numbers = NDArray[np.floating[Any]]
Values = ArrayLike | torch.Tensor


def numbers(values: Values, name: str) -> Numbers:
    """`values` as a float array on the host; infinity, which no axis can show, becomes NaN.

    Raises:
        ConfigError: if they are not numbers.

    >>> numbers([1, float("inf")], "losses")
    array([ 1., nan])
    """
    if isinstance(values, torch.Tensor):
        # NumPy has no bfloat16, and half precision gains nothing here.
        values = values.detach().to("cpu", values.dtype if values.dtype == torch.float32 else torch.float64).numpy()
    try:
        given = np.asarray(values)
        array = given if given.dtype == np.float32 else given.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} must be numbers in rows of one length: {error}. Put NaN for a missing one.") from (
            error
        )
    return np.where(np.isfinite(array), array, array.dtype.type(np.nan))


def by_layer(values: Values, name: str, columns: str = "steps") -> Numbers:
    """`values` as a table with one row per layer.

    Raises:
        ShapeError: if they have not two dimensions.
    """
    table = numbers(values, name)
    if table.ndim != 2:
        raise ShapeError(
            f"{name} has shape {table.shape}; a figure of layers needs (layers, {columns}). "
            "For a single layer give one row: values[None]."
        )
    return table


def like(values: Values, name: str, table: Numbers, other: str) -> Numbers:
    """`values` as numbers, of the shape of `table`.

    Raises:
        ShapeError: if the shapes differ.
    """
    array = numbers(values, name)
    if array.shape != table.shape:
        raise ShapeError(
            f"{name} has shape {array.shape} and {other} {table.shape}. Give both for the same layers and steps; "
            "NaN where a number is missing."
        )
    return array


def increasing(values: Values, name: str, count: int) -> Numbers:
    """`values` as `count` finite, increasing numbers of an axis.

    Raises:
        ShapeError: if there are not `count` of them.
        ConfigError: if they do not increase.
    """
    array = numbers(values, name)
    if array.shape != (count,):
        raise ShapeError(f"{name} has shape {array.shape}, for {count:,} columns. Give one number per column.")
    # Written so that NaN is refused too.
    if not (np.isfinite(array).all() and (np.diff(array) > 0).all()):
        raise ConfigError(f"{name} must be finite and increase from each to the next. Sort the columns by {name}.")
    return array


def layer_names(layers: Sequence[object] | None, count: int, prefix: str = "") -> list[str]:
    """A different name for each layer; without names `prefix` and a number from 1.

    Raises:
        ShapeError: if there are not `count` names.
        ConfigError: if two layers have one name.

    >>> layer_names(None, 3)
    ['1', '2', '3']
    """
    names = (
        [f"{prefix}{number}" for number in range(1, count + 1)] if layers is None else [str(each) for each in layers]
    )
    if len(names) != count:
        raise ShapeError(f"{len(names)} layer names came for {count} rows of values. Give one name per row.")
    if len(set(names)) != count:
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"two layers are called {twice!r}. Give every layer a name of its own.")
    return names
