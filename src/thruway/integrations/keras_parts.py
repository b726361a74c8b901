"""What the Keras layers need to know before there is a Keras layer: Keras itself, and how the maps start."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from thruway.activations import ACTIVATIONS
from thruway.errors import ConfigError, ShapeError, unknown_name
from thruway.nn.argument_checks import CARRIES

__all__ = ["accept_data_format", "accept_width", "activation_name", "import_keras", "map_starts", "refuse_habits"]

DATA_FORMATS = ("channels_first", "channels_last")

# What the old Highway of Keras was told, and what it is called here.
_RENAMED = {"transform_bias": "gate_bias"}

# What Keras's own layers are told, and why it is not said here.
_HABITS = {
    "units": "the width comes from the input, which is carried",
    "filters": "the width comes from the input, which is carried",
    "strides": "the output is as large as the input, which is carried: strides are always 1",
    "padding": 'the output is as large as the input, which is carried: padding is always "same"',
}


def import_keras() -> Any:
    """Keras 3.

    Raises:
        ConfigError: if it, or the backend that it is set to, cannot be imported.
    """
    try:
        keras = importlib.import_module("keras")
    except ImportError as error:
        raise ConfigError(
            f"Thruway's Keras layers need Keras 3, which cannot be imported ({error}). Install it with: pip install "
            "'thruway[keras]'. If it is its backend that is missing, choose another before the first import of keras, "
            "in the environment: KERAS_BACKEND=torch."
        ) from error
    if not hasattr(keras, "ops"):
        raise ConfigError(
            f"Thruway's Keras layers need Keras 3, got {keras.__version__}: pip install --upgrade 'thruway[keras]'. "
            "For weights of the old Highway layer there is thruway.integrations.legacy_keras.from_legacy_keras."
        )
    return keras


def refuse_habits(layer: str, like: str, activation: object, arguments: Mapping[str, object]) -> None:
    """Refuse what Keras's own layers take and a highway layer does not.

    Args:
        like: how the layer is called instead.

    Raises:
        ConfigError: for a number, or a kernel size, where the activation stands, or an argument of those layers
            or of the old Highway.
    """
    habit = next((name for name in _HABITS if name in arguments), None)
    if habit is not None:
        raise ConfigError(
            f"{layer} takes no {habit}= (got {arguments[habit]!r}): {_HABITS[habit]}. Write {like}; to change the "
            "width or the size, put a Dense or a convolution before it."
        )
    renamed = next((name for name in _RENAMED if name in arguments), None)
    if renamed is not None:
        raise ConfigError(
            f"{layer} takes no {renamed}= (got {arguments[renamed]!r}): it is called {_RENAMED[renamed]}= here. Write "
            f"{_RENAMED[renamed]}={arguments[renamed]!r}."
        )
    if isinstance(activation, int | float | tuple | list):
        raise ConfigError(
            f"{layer} got {activation!r} as its activation, which comes where Keras's own layers have a number: the "
            f"width is not among the arguments, it comes from the input, which is carried. Write {like}."
        )


def activation_name(keras: Any, activation: Any) -> str | None:
    """The row of ACTIVATIONS that an activation of Keras is; None if it is none of them."""
    return next((name for name in ACTIVATIONS if getattr(keras.activations, name, None) is activation), None)


def map_starts(
    keras: Any, carry: str, gate_bias: float, name: str | None, kernel: Any, bias: Any
) -> list[tuple[str, Any, Any]]:
    """(name, start of the kernel, start of the bias) for each map; as in the PyTorch layers where `kernel` is None.

    Glorot's normalised weights are uniform, of variance 2 / (fan_in + fan_out); a gain multiplies them.
    """
    gain = 1.0 if name is None else ACTIVATIONS[name].gain
    biases = {
        "transform": bias,
        "transform_gate": keras.initializers.Constant(gate_bias),
        "carry_gate": keras.initializers.Constant(-gate_bias),
    }
    scales = {"transform": gain**2, "transform_gate": 1.0, "carry_gate": 1.0}

    def start(place: int, each: str) -> Any:
        if kernel is None:
            return keras.initializers.VarianceScaling(scales[each], "fan_avg", "uniform")
        return _apart(kernel, place)

    return [(each, start(place, each), biases[each]) for place, each in enumerate(CARRIES[carry])]


def _apart(initializer: Any, place: int) -> Callable[..., Any]:
    """The initialiser for one of several maps of one shape, which must not all start with the same numbers."""
    config = initializer.get_config() if hasattr(initializer, "get_config") else {}
    seed = config.get("seed", "none of its own")
    if isinstance(seed, int):
        config["seed"] = seed + place
    elif seed is not None:  # nothing random, or a generator, which moves on by itself
        return initializer  # type: ignore[no-any-return]
    return type(initializer).from_config(config)  # type: ignore[no-any-return]


def accept_data_format(data_format: str) -> str:
    """`data_format`, if Keras has it."""
    if data_format not in DATA_FORMATS:
        raise ConfigError(unknown_name("data_format", data_format, DATA_FORMATS))
    return data_format


def accept_width(layer: str, shape: tuple[int | None, ...], axis: int, rank: int | None, width: int | None) -> int:
    """The width of an input of this shape, which must be `width` if that is not None.

    Raises:
        ShapeError: if it is another, if it is not known, or if the input has not `rank` axes (at least 2, if None).
    """
    if len(shape) != rank if rank else len(shape) < 2:
        wanted = "(batch, ..., width)" if rank is None else f"{rank} axes, the batch among them"
        raise ShapeError(f"{layer} works on inputs of {wanted}, got one of shape {shape}.")
    found = shape[axis]
    if found is None:
        raise ShapeError(
            f"{layer} takes its width from axis {axis} of the input, which is not known in {shape}. Give the input "
            "layer a shape that says it."
        )
    if width not in (None, found):
        raise ShapeError(
            f"{layer} was built for width {width} along axis {axis}, got an input of shape {shape}. It carries its "
            "input, so the width stays; put a Dense or a convolution before it, or build another layer."
        )
    return found
