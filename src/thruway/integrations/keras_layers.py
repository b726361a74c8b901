"""The highway layers of Keras: made when first asked for, since Keras must be there to derive them from."""

import functools
from typing import Any

from thruway.integrations.keras_parts import (
    accept_data_format,
    accept_width,
    activation_name,
    import_keras,
    map_starts,
    refuse_habits,
)
from thruway.nn.argument_checks import check_carry, check_gate_bias
from thruway.nn.same_conv import SameConv, same_conv

__all__ = ["NAMES", "layers"]

NAMES = ("HighwayDense", "HighwayConv1D", "HighwayConv2D")
DOOR = "thruway.integrations.keras"

Size = int | tuple[int, ...]


@functools.cache
def layers() -> dict[str, Any]:
    """The classes under their NAMES, registered with Keras under the package "thruway".

    Raises:
        ConfigError: if Keras 3 cannot be imported.
    """
    keras = import_keras()
    ops = keras.ops

    class _Highway(keras.layers.Layer):  # type: ignore[name-defined, misc]
        """What the three classes share: all but the signature."""

        conv: SameConv | None = None
        data_format = "channels_last"
        like = 'HighwayDense(activation="relu")'

        def __init__(
            self,
            activation: Any,
            gate_bias: float,
            carry: str,
            *,
            kernel_initializer: Any = None,
            bias_initializer: Any = "zeros",
            kernel_regularizer: Any = None,
            bias_regularizer: Any = None,
            kernel_constraint: Any = None,
            bias_constraint: Any = None,
            **arguments: Any,
        ) -> None:
            refuse_habits(type(self).__name__, self.like, activation, arguments)
            super().__init__(**arguments)
            self.activation = keras.activations.get(activation)
            self.gate_bias, self.carry = check_gate_bias(gate_bias), check_carry(carry)
            self.kernel_initializer = keras.initializers.get(kernel_initializer)
            self.bias_initializer = keras.initializers.get(bias_initializer)
            self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
            self.bias_regularizer = keras.regularizers.get(bias_regularizer)
            self.kernel_constraint = keras.constraints.get(kernel_constraint)
            self.bias_constraint = keras.constraints.get(bias_constraint)
            self.width: int | None = None
            self.kernels: list[Any] = []
            self.biases: list[Any] = []

        @property
        def axis(self) -> int:
            return 1 if self.data_format == "channels_first" else -1

        def build(self, input_shape: Any) -> None:
            width = self._width(input_shape)
            taps = () if self.conv is None else self.conv.kernel_size
            name = activation_name(keras, self.activation)
            starts = map_starts(keras, self.carry, self.gate_bias, name, self.kernel_initializer, self.bias_initializer)
            # Weights of their own, so that an initialiser, a regulariser or a constraint sees one map at a time.
            for each, kernel_start, bias_start in starts:
                kernel = self.add_weight(
                    name=f"{each}_kernel",
                    shape=(*taps, width, width),
                    initializer=kernel_start,
                    regularizer=self.kernel_regularizer,
                    constraint=self.kernel_constraint,
                )
                bias = self.add_weight(
                    name=f"{each}_bias",
                    shape=(width,),
                    initializer=bias_start,
                    regularizer=self.bias_regularizer,
                    constraint=self.bias_constraint,
                )
                self.kernels.append(kernel)
                self.biases.append(bias)
            self.width = width

        def call(self, inputs: Any) -> Any:
            self._width(inputs.shape)
            # Whole numbers, too, are carried as what the layer computes in.
            x = ops.cast(inputs, self.compute_dtype)
            h, t, *c = (self._map(x, *each) for each in zip(self.kernels, self.biases, strict=True))
            h, t = self.activation(h), ops.sigmoid(t)
            # Not x + t(h - x): this is x to the last bit where t = 0, and h where t = 1.
            return h * t + x * (ops.sigmoid(c[0]) if c else 1 - t)

        def _map(self, x: Any, kernel: Any, bias: Any) -> Any:
            # The tensors' own @ and +: of float64, ops.matmul makes float32 on all backends but TensorFlow
            # (keras-team/keras#23704).
            kernel, bias = ops.convert_to_tensor(kernel), ops.convert_to_tensor(bias)
            if self.conv is None:
                return x @ kernel + bias
            if self.axis == 1:
                bias = ops.reshape(bias, (-1, *(1 for _ in self.conv.kernel_size)))
            return ops.conv(x, kernel, 1, "same", self.data_format, self.conv.dilation) + bias

        def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
            self._width(input_shape)
            return tuple(input_shape)

        def _width(self, shape: Any) -> int:
            rank = None if self.conv is None else self.conv.dims + 2
            return accept_width(type(self).__name__, tuple(shape), self.axis, rank, self.width)

        def get_config(self) -> dict[str, Any]:
            config: dict[str, Any] = super().get_config()
            config |= {
                "activation": keras.activations.serialize(self.activation),
                "gate_bias": self.gate_bias,
                "carry": self.carry,
            }
            for of in ("kernel", "bias"):
                for what in ("initializer", "regularizer", "constraint"):
                    value = getattr(self, f"{of}_{what}")
                    serialize = getattr(keras, f"{what}s").serialize
                    config[f"{of}_{what}"] = None if value is None else serialize(value)
            if self.conv is not None:
                config |= {
                    "kernel_size": self.conv.kernel_size,
                    "dilation_rate": self.conv.dilation,
                    "data_format": self.data_format,
                }
            return config

    class HighwayDense(_Highway):
        """A Dense layer that learns, unit by unit, how much to transform and how much to carry.

            y = H(x)·T(x) + x·(1 - T(x)),     H = activation(x W_H + b_H),  T = sigmoid(x W_T + b_T)

        It works on (batch, ..., width); the width is that of the first input. `kernels` and `biases` hold those of H
        and T (and C, with carry="independent", when y = H·T + x·C).

        Args:
            activation: of H, as Keras's layers take it.
            gate_bias: what b_T starts at; below 0 the layer starts by carrying. An independent carry gate starts at
                -gate_bias.
            carry: "coupled" (C = 1 - T) or "independent" (C has weights of its own).
            kernel_initializer: of each map, drawn apart. None is the start of thruway.nn.HighwayLinear: Glorot's,
                times the gain of the activation for H.
            bias_initializer: of b_H.
            kernel_regularizer, kernel_constraint: of each map's kernel.
            bias_regularizer, bias_constraint: of each map's bias; weight decay there opens the gates.
            activity_regularizer, name, dtype, trainable: as in every layer of Keras.
        Raises:
            ConfigError: for an unknown carry, a gate bias that is no number, or arguments of Dense, such as units.
            ShapeError: for an input whose width is not known, or is not that of the first.
        Source:
            Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), eqs. 2-3, sec. 2.2.
        """

        def __init__(
            self, activation: Any = "relu", gate_bias: float = -2.0, carry: str = "coupled", **arguments: Any
        ) -> None:
            super().__init__(activation, gate_bias, carry, **arguments)
            self.supports_masking = True

    class _HighwayConv(_Highway):
        """The signature that both convolutions share."""

        dims = 0

        def __init__(
            self,
            kernel_size: Size,
            activation: Any = "relu",
            gate_bias: float = -2.0,
            carry: str = "coupled",
            dilation_rate: Size = 1,
            data_format: str | None = None,
            **arguments: Any,
        ) -> None:
            super().__init__(activation, gate_bias, carry, **arguments)
            # Of how many channels, the input will say.
            self.conv = same_conv(self.dims, 1, kernel_size, dilation_rate, 1, "zeros")
            self.data_format = accept_data_format(data_format or keras.config.image_data_format())

    class HighwayConv1D(_HighwayConv):
        """A highway layer along sequences: HighwayDense with convolutions for its maps, as large out as in.

        Args:
            kernel_size: odd.
            dilation_rate: distance between the taps of the kernel.
            data_format: "channels_last", (batch, steps, channels), or "channels_first"; None is Keras's own default.
            activation, gate_bias, carry, ...: as in HighwayDense.
        Raises:
            ConfigError: for an even kernel, for arguments of Conv1D, such as filters or strides, and for what
                HighwayDense refuses.
            ShapeError: as there.
        Source:
            Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), secs. 2.1-2.2.
        """

        dims = 1
        like = 'HighwayConv1D(3, activation="relu"), with the size of the kernel first'

    class HighwayConv2D(_HighwayConv):
        """A highway layer on images: HighwayConv1D, with kernel_size and dilation_rate per axis or for both."""

        dims = 2
        like = 'HighwayConv2D(3, activation="relu"), with the size of the kernel first'

    found = {kind.__name__: kind for kind in (HighwayDense, HighwayConv1D, HighwayConv2D)}
    for name, kind in found.items():
        # Where users find them, and pickle too.
        kind.__module__, kind.__qualname__ = DOOR, name
        keras.saving.register_keras_serializable("thruway")(kind)
    return found
