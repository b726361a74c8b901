"""Checks and conversions of the arguments of figures: arrays, layer tables, axes and layer names."""

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
    """Return `values` as a float NumPy array; infinity, which no axis can show, becomes NaN.

    Raises:
        ConfigError: if they are not numeric.

    >>> as_array([1, float("inf")], "losses")
    array([ 1., nan])
    """
    if isinstance(values, torch.Tensor):
        # NumPy has no bfloat16; every dtype but float32 becomes float64.
        values = values.detach().to("cpu", values.dtype if values.dtype == torch.float32 else torch.float64).numpy()
    try:
        given = np.asarray(values)
        array = given if given.dtype == np.float32 else given.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} must be numbers in rows of one length: {error}. Use NaN for gaps.") from error
    return np.where(np.isfinite(array), array, array.dtype.type(np.nan))


def as_vector(values: Values, name: str) -> FloatArray:
    """Return `values` as a one-dimensional array.

    Raises:
        ShapeError: if they have another number of dimensions.
    """
    row = as_array(values, name)
    if row.ndim != 1:
        raise ShapeError(f"{name} must be one-dimensional, got shape {row.shape}. Flatten it.")
    return row


def as_layer_table(values: Values, name: str, columns: str = "steps") -> FloatArray:
    """Return `values` as a table with one row per layer.

    Raises:
        ShapeError: if they do not have two dimensions.
    """
    table = as_array(values, name)
    if table.ndim != 2:
        raise ShapeError(
            f"{name} must have shape (layers, {columns}), got {table.shape}. "
            "For a single layer pass one row: values[None]."
        )
    return table


def as_array_like(values: Values, name: str, table: FloatArray, other: str) -> FloatArray:
    """Return `values` as an array of the shape of `table`.

    Raises:
        ShapeError: if the shapes differ.
    """
    array = as_array(values, name)
    if array.shape != table.shape:
        raise ShapeError(
            f"{name} has shape {array.shape} and {other} {table.shape}. Pass both for the same layers and steps; "
            "use NaN for missing numbers."
        )
    return array


def as_increasing(values: Values, name: str, count: int) -> FloatArray:
    """Return `values` as an axis of `count` finite, increasing numbers.

    Raises:
        ShapeError: if there are not `count` of them.
        ConfigError: if they do not increase.
    """
    array = as_array(values, name)
    if array.shape != (count,):
        raise ShapeError(f"{name} has shape {array.shape}, for {count:,} columns. Pass one number per column.")
    # Written so that NaN raises too.
    if not (np.isfinite(array).all() and (np.diff(array) > 0).all()):
        raise ConfigError(f"{name} must be finite and strictly increasing. Sort the columns by {name}.")
    return array


def layer_names(layers: Sequence[object] | None, count: int, prefix: str = "") -> list[str]:
    """Return a unique name for each layer; without `layers`, `prefix` and a number from 1.

    Raises:
        ShapeError: if there are not `count` names.
        ConfigError: if two layers have the same name.

    >>> layer_names(None, 3)
    ['1', '2', '3']
    """
    names = (
        [f"{prefix}{number}" for number in range(1, count + 1)] if layers is None else [str(each) for each in layers]
    )
    if len(names) != count:
        raise ShapeError(f"got {len(names)} layer names for {count} rows of values. Pass one name per row.")
    if len(set(names)) != count:
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"two layers are called {twice!r}. Pass a unique name for each layer.")
    return names
