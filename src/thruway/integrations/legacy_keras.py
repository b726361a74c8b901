"""Conversion of weights of the Highway layer of Keras 1 and 2."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from thruway.errors import CheckpointError, ConfigError
from thruway.integrations.highway_weights import with_parameters
from thruway.nn import HighwayLinear

__all__ = ["from_legacy_keras"]


def from_legacy_keras(
    weights: Sequence[ArrayLike], activation: str | Callable[[Tensor], Tensor] = "linear"
) -> HighwayLinear:
    """Convert the weights of an old Keras Highway layer into the equivalent highway layer.

        y = t·f(x W + b) + (1 - t)·x,     t = sigmoid(x W_carry + b_carry)

    Despite the name of its weights, t is the transform gate. The initial value of b_carry (+1 since a rewrite in Keras
    1, `transform_bias` before) does not matter for trained weights.

    The function also converts any pair of Dense layers with kernels (in, out), such as H and T of TensorFlow's
    `highwaynet`.

    Args:
        weights: the result of the layer's get_weights(): W, W_carry, b, b_carry; or W, b, W_carry, b_carry, the order
            before that rewrite; or W, W_carry for a layer without bias.
        activation: f. Keras's default is linear; the weights do not record it.
    Returns:
        The layer, with the dtype of the weights. `reset_parameters` sets b_T to -2, as in the paper.
    Raises:
        ConfigError: if `weights` is not a list of arrays, for example a path.
        CheckpointError: if they are not the weights of a Highway, or not floating-point arrays.
    Source:
        keras-team/keras, keras/legacy/layers.py of version 2. The layer: Srivastava, Greff & Schmidhuber 2015, eq. 3.

    >>> layer = from_legacy_keras([[[3.0]], [[0.0]], [1.0], [0.0]])  # H = 3x + 1, T = 1/2
    >>> layer(torch.tensor([[1.0]], dtype=layer.weight.dtype)).item()
    2.5
    """
    if isinstance(weights, str | bytes | Mapping) or not isinstance(weights, Iterable):
        raise ConfigError(
            f"from_legacy_keras takes the list of arrays that the layer's get_weights() returned, got a "
            f"{type(weights).__name__}. For a file, load the model and call get_weights() of its layer; for a dict, "
            "pass the arrays in the order W, W_carry, b, b_carry."
        )
    arrays = [_array(each) for each in weights]
    # In both orders, the array of the transform comes before that of the gate.
    kernels = [array for array in arrays if array.ndim == 2]
    biases = [array for array in arrays if array.ndim == 1]
    width = len(kernels[0]) if kernels else 0
    is_complete = len(kernels) == 2 and len(biases) in (0, 2) and len(kernels) + len(biases) == len(arrays)
    shapes = {kernel.shape for kernel in kernels} | {bias.shape * 2 for bias in biases}
    if not is_complete or shapes != {(width, width)} or width == 0:
        raise CheckpointError(
            f"a Keras Highway of width d has two kernels (d, d) and two biases (d,) or none; got arrays of shape "
            f"{', '.join(str(array.shape) for array in arrays) or '(none)'}. Pass the result of its get_weights()."
        )
    biases = biases or [np.zeros(width, kernel.dtype) for kernel in kernels]
    layer = HighwayLinear(width, activation, device="meta")
    return with_parameters(layer, [_tensor(kernel.T) for kernel in kernels], [_tensor(bias) for bias in biases])


def _array(weight: ArrayLike) -> np.ndarray:
    try:
        array = np.asarray(weight)
    except (RuntimeError, TypeError, ValueError) as error:  # a ragged list; a tensor on a GPU or with requires_grad
        raise CheckpointError(
            f"the weights of a Keras Highway are numeric arrays, got a {type(weight).__name__} that cannot be "
            f"converted ({error}). Pass the result of its get_weights(); for a tensor, tensor.detach().cpu().numpy()."
        ) from error
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise CheckpointError(
            f"the weights of a Keras Highway are float16, float32 or float64, got {array.dtype}. Convert them with "
            'np.asarray(weight, "float32").'
        )
    return array


def _tensor(array: np.ndarray) -> Tensor:
    # A copy: an array loaded from a file may be read-only, have another byte order or negative strides.
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
