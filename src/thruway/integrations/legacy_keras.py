"""The weights of the Highway layer that Keras had up to version 2."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from thruway.errors import CheckpointError, ConfigError
from thruway.integrations.highway_weights import with_maps
from thruway.nn import HighwayLinear

__all__ = ["from_legacy_keras"]


def from_legacy_keras(
    weights: Sequence[ArrayLike], activation: str | Callable[[Tensor], Tensor] = "linear"
) -> HighwayLinear:
    """The highway layer that computes what Keras's old Highway with these weights computes.

        y = t·f(x W + b) + (1 - t)·x,     t = sigmoid(x W_carry + b_carry)

    t is the transform gate, whatever its weights are called. Where b_carry started (at +1 since a rewrite in Keras 1,
    at `transform_bias` before) no longer matters to a layer that has been trained: it is part of what was learnt.

    The same is any pair of Dense layers with kernels (in, out), such as the H and T of TensorFlow's `highwaynet`.

    Args:
        weights: as its get_weights() gave them: W, W_carry, b, b_carry; or W, b, W_carry, b_carry, as before that
            rewrite; or W, W_carry of a layer without bias.
        activation: f; linear, unless the Highway was built with another. The weights do not tell.
    Returns:
        The layer, in the type of the weights. A fresh start (`reset_parameters`) puts b_T at -2, as in the paper.
    Raises:
        ConfigError: for something else than a list of arrays, such as the path of a file.
        CheckpointError: if these are no weights of a Highway, or no arrays of floating point.
    Source:
        keras-team/keras, keras/legacy/layers.py of version 2. The layer: Srivastava, Greff & Schmidhuber 2015, eq. 3.

    >>> layer = from_legacy_keras([[[3.0]], [[0.0]], [1.0], [0.0]])  # H = 3x + 1, T = 1/2
    >>> layer(torch.tensor([[1.0]], dtype=layer.weight.dtype)).item()
    2.5
    """
    if isinstance(weights, str | bytes | Mapping) or not isinstance(weights, Iterable):
        raise ConfigError(
            f"from_legacy_keras takes a list of arrays, what the layer's get_weights() returned, got a "
            f"{type(weights).__name__}. Of a file, load the model and ask its layer; of a dict, put the arrays into "
            "the order W, W_carry, b, b_carry."
        )
    arrays = [_array(each) for each in weights]
    # Both orders agree within each kind: the map's own comes before the gate's.
    kernels = [array for array in arrays if array.ndim == 2]
    biases = [array for array in arrays if array.ndim == 1]
    width = len(kernels[0]) if kernels else 0
    are_whole = len(kernels) == 2 and len(biases) in (0, 2) and len(kernels) + len(biases) == len(arrays)
    shapes = {kernel.shape for kernel in kernels} | {bias.shape * 2 for bias in biases}
    if not are_whole or shapes != {(width, width)} or width == 0:
        raise CheckpointError(
            f"a Keras Highway of width d has two kernels (d, d) and two biases (d,), or no biases; got arrays of shape "
            f"{', '.join(str(array.shape) for array in arrays) or '(none)'}. Give what its get_weights() returned."
        )
    biases = biases or [np.zeros(width, kernel.dtype) for kernel in kernels]
    layer = HighwayLinear(width, activation, device="meta")
    return with_maps(layer, [_tensor(kernel.T) for kernel in kernels], [_tensor(bias) for bias in biases])


def _array(given: ArrayLike) -> np.ndarray:
    try:
        array = np.asarray(given)
    except (RuntimeError, TypeError, ValueError) as error:  # a ragged list; a tensor that learns, or on a GPU
        raise CheckpointError(
            f"the weights of a Keras Highway are arrays of numbers, got a {type(given).__name__} that makes none "
            f"({error}). Give what its get_weights() returned; of a tensor, tensor.detach().cpu().numpy()."
        ) from error
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise CheckpointError(
            f"the weights of a Keras Highway are float16, float32 or float64, got {array.dtype}. Convert them with "
            'np.asarray(weight, "float32").'
        )
    return array


def _tensor(array: np.ndarray) -> Tensor:
    # A copy: what comes from a file may be read-only, of another byte order or upside down in memory.
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
