"""Argument checks and initializers of the Keras highway layers, and the import of Keras itself."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from thruway.activations import ACTIVATIONS
from thruway.errors import ConfigError, ShapeError, unknown_name
from thruway.nn.checks import CARRIES

__all__ = [
    "accept_data_format",
    "accept_width",
    "activation_name",
    "import_keras",
    "map_initializers",
    "refuse_foreign_arguments",
]

DATA_FORMATS = ("channels_first", "channels_last")

# Argument of the Highway layer of Keras 1 and 2 -> its name here.
_RENAMED_ARGUMENTS = {"transform_bias": "gate_bias"}

# Argument of Keras's own layers -> the reason why a highway layer does not have it.
_FOREIGN_ARGUMENTS = {
    "units": "a highway layer carries its input, so the width is that of the input",
    "filters": "a highway layer carries its input, so the width is that of the input",
    "strides": "a highway layer carries its input, so the output has the same size and strides are always 1",
    "padding": 'a highway layer carries its input, so the output has the same size and padding is always "same"',
}


def import_keras() -> Any:
    """Import and return Keras 3.

    Raises:
        ConfigError: if Keras 3 or its configured backend cannot be imported.
    """
    try:
        keras = importlib.import_module("keras")
    except ImportError as error:
        raise ConfigError(
            f"Thruway's Keras layers need Keras 3, which cannot be imported ({error}). Install it with: pip install "
            "'thruway[keras]'. If only its backend is missing, choose another one in the environment before keras is "
            "first imported: KERAS_BACKEND=torch."
        ) from error
    if not hasattr(keras, "ops"):
        raise ConfigError(
            f"Thruway's Keras layers need Keras 3, got {keras.__version__}: pip install --upgrade 'thruway[keras]'. "
            "To convert weights of the old Highway layer, use thruway.integrations.legacy_keras.from_legacy_keras."
        )
    return keras


def refuse_foreign_arguments(layer: str, example: str, activation: object, arguments: Mapping[str, object]) -> None:
    """Raise an error if an argument of another Keras layer was passed to a highway layer.

    Args:
        layer: name of the highway layer.
        example: a correct call of the layer, for the message.
        activation: value of the activation argument; a number there is likely the `units` of a Dense layer.
        arguments: the remaining keyword arguments.

    Raises:
        ConfigError: if the activation is a number or a kernel size, or an argument belongs to another Keras layer or to
            the old Highway.
    """
    foreign = next((name for name in _FOREIGN_ARGUMENTS if name in arguments), None)
    if foreign is not None:
        raise ConfigError(
            f"{layer} takes no {foreign}= (got {arguments[foreign]!r}): {_FOREIGN_ARGUMENTS[foreign]}. "
            f"Write {example}; to change the width or the size, put a Dense or a convolution before it."
        )
    renamed = next((name for name in _RENAMED_ARGUMENTS if name in arguments), None)
    if renamed is not None:
        raise ConfigError(
            f"{layer} takes no {renamed}= (got {arguments[renamed]!r}): it is called {_RENAMED_ARGUMENTS[renamed]}= "
            f"here. Write {_RENAMED_ARGUMENTS[renamed]}={arguments[renamed]!r}."
        )
    if isinstance(activation, int | float | tuple | list):
        raise ConfigError(
            f"{layer} got {activation!r} as its activation. The first argument is not the number of units: a highway "
            f"layer carries its input, so the width is that of the input. Write {example}."
        )


def activation_name(keras: Any, activation: Any) -> str | None:
    """Return the name in ACTIVATIONS of a Keras activation, or None if it has none."""
    return next((name for name in ACTIVATIONS if getattr(keras.activations, name, None) is activation), None)


def map_initializers(
    keras: Any, carry: str, gate_bias: float, name: str | None, kernel: Any, bias: Any
) -> list[tuple[str, Any, Any]]:
    """Return (name, kernel initializer, bias initializer) of each map.

    If `kernel` is None, the kernels are initialised as in the PyTorch layers: Glorot uniform, variance
    2 / (fan_in + fan_out), for H multiplied by the gain of the activation.
    """
    gain = 1.0 if name is None else ACTIVATIONS[name].gain
    biases = {
        "transform": bias,
        "transform_gate": keras.initializers.Constant(gate_bias),
        "carry_gate": keras.initializers.Constant(-gate_bias),
    }
    scales = {"transform": gain**2, "transform_gate": 1.0, "carry_gate": 1.0}

    def kernel_initializer(position: int, each: str) -> Any:
        if kernel is None:
            return keras.initializers.VarianceScaling(scales[each], "fan_avg", "uniform")
        return _initializer_for_map(kernel, position)

    names = enumerate(CARRIES[carry])
    return [(each, kernel_initializer(position, each), biases[each]) for position, each in names]


def _initializer_for_map(initializer: Any, position: int) -> Callable[..., Any]:
    """Return a variant of the initializer for the map at `position`, so that maps of the same shape differ."""
    config = initializer.get_config() if hasattr(initializer, "get_config") else {}
    seed = config.get("seed", "none of its own")
    if isinstance(seed, int):
        config["seed"] = seed + position
    elif seed is not None:  # not random, or a seed generator, which advances by itself
        return initializer  # type: ignore[no-any-return]
    return type(initializer).from_config(config)  # type: ignore[no-any-return]


def accept_data_format(data_format: str) -> str:
    """Return `data_format` if it is valid, else raise ConfigError."""
    if data_format not in DATA_FORMATS:
        raise ConfigError(unknown_name("data_format", data_format, DATA_FORMATS))
    return data_format


def accept_width(layer: str, shape: tuple[int | None, ...], axis: int, rank: int | None, width: int | None) -> int:
    """Return the width of an input of the given shape.

    Raises:
        ShapeError: if it is unknown, differs from `width` (unless that is None), or the input does not have `rank` axes
            (at least 2 if None).
    """
    if len(shape) != rank if rank else len(shape) < 2:
        expected = "of shape (batch, ..., width)" if rank is None else f"with {rank} axes, including the batch"
        raise ShapeError(f"{layer} expects inputs {expected}, got one of shape {shape}.")
    found = shape[axis]
    if found is None:
        raise ShapeError(
            f"{layer} takes its width from axis {axis} of the input, which is unknown in {shape}. Specify it in the "
            "shape of the input layer."
        )
    if width not in (None, found):
        raise ShapeError(
            f"{layer} was built for width {width} along axis {axis}, got an input of shape {shape}. A highway layer "
            "has a fixed width, since it carries its input; put a Dense or a convolution before it, or build another "
            "layer."
        )
    return found
