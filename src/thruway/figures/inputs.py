"""What a figure is given: numbers by layer and step, checked before anything is drawn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from thruway.errors import ConfigError, ShapeError

__all__ = [
    "FloatArray",
    "Values",
    "as_array",
    "as_array_like",
    "as_increasing",
    "as_layer_table",
    "as_vector",
    "layer_names",
]

FloatArray = NDArray[np.floating[Any]]
Values = ArrayLike | torch.Tensor


def as_array(values: Values, name: str) -> FloatArray:
    """`values` as a float array on the host; infinity, which no axis can show, becomes NaN.

    Raises:
        ConfigError: if they are not numbers.

    >>> as_array([1, float("inf")], "losses")
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


def as_vector(values: Values, name: str) -> FloatArray:
    """`values` as one row of numbers.

    Raises:
        ShapeError: if they have not one dimension.
    """
    row = as_array(values, name)
    if row.ndim != 1:
        raise ShapeError(f"{name} has shape {row.shape}; a number per branch, length or draw is wanted. Flatten it.")
    return row


def as_layer_table(values: Values, name: str, columns: str = "steps") -> FloatArray:
    """`values` as a table with one row per layer.

    Raises:
        ShapeError: if they have not two dimensions.
    """
    table = as_array(values, name)
    if table.ndim != 2:
        raise ShapeError(
            f"{name} has shape {table.shape}; a figure of layers needs (layers, {columns}). "
            "For a single layer give one row: values[None]."
        )
    return table


def as_array_like(values: Values, name: str, table: FloatArray, other: str) -> FloatArray:
    """`values` as numbers, of the shape of `table`.

    Raises:
        ShapeError: if the shapes differ.
    """
    array = as_array(values, name)
    if array.shape != table.shape:
        raise ShapeError(
            f"{name} has shape {array.shape} and {other} {table.shape}. Give both for the same layers and steps; "
            "NaN where a number is missing."
        )
    return array


def as_increasing(values: Values, name: str, count: int) -> FloatArray:
    """`values` as `count` finite, increasing numbers of an axis.

    Raises:
        ShapeError: if there are not `count` of them.
        ConfigError: if they do not increase.
    """
    array = as_array(values, name)
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
