"""The Keras highway layers. The classes are created on first use, since they derive from classes of Keras."""

import functools
from typing import Any

from thruway.integrations.keras_arguments import (
    accept_data_format,
    accept_width,
    activation_name,
    import_keras,
    map_initializers,
    refuse_foreign_arguments,
)
from thruway.nn.checks import check_carry, check_gate_bias
from thruway.nn.same_conv import SameConv, same_conv

__all__ = ["NAMES", "layers"]

NAMES = ("HighwayDense", "HighwayConv1D", "HighwayConv2D")
PUBLIC_MODULE = "thruway.integrations.keras"

Size = int | tuple[int, ...]


@functools.cache
def layers() -> dict[str, Any]:
    """Return the layer classes by name, registered with Keras under the package "thruway".

    Raises:
        ConfigError: if Keras 3 cannot be imported.
    """
    keras = import_keras()
    ops = keras.ops

    class _Highway(keras.layers.Layer):  # type: ignore[name-defined, misc]
        """Implementation shared by the three layers, which add their signatures."""

        conv: SameConv | None = None
        data_format = "channels_last"
        example = 'HighwayDense(activation="relu")'  # a correct call, shown in error messages

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
            refuse_foreign_arguments(type(self).__name__, self.example, activation, arguments)
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
            kernel_size = () if self.conv is None else self.conv.kernel_size
            name = activation_name(keras, self.activation)
            initializers = map_initializers(
                keras, self.carry, self.gate_bias, name, self.kernel_initializer, self.bias_initializer
            )
            # One weight per map, so that initializers, regularizers and constraints see one map at a time.
            for each, kernel_initializer, bias_initializer in initializers:
                kernel = self.add_weight(
                    name=f"{each}_kernel",
                    shape=(*kernel_size, width, width),
                    initializer=kernel_initializer,
                    regularizer=self.kernel_regularizer,
                    constraint=self.kernel_constraint,
                )
                bias = self.add_weight(
                    name=f"{each}_bias",
                    shape=(width,),
                    initializer=bias_initializer,
                    regularizer=self.bias_regularizer,
                    constraint=self.bias_constraint,
                )
                self.kernels.append(kernel)
                self.biases.append(bias)
            self.width = width

        def call(self, inputs: Any) -> Any:
            self._width(inputs.shape)
            # Integer inputs too are carried in the compute dtype.
            x = ops.cast(inputs, self.compute_dtype)
            h, t, *c = (self._map(x, *each) for each in zip(self.kernels, self.biases, strict=True))
            h, t = self.activation(h), ops.sigmoid(t)
            # Not x + t(h - x): this form is exactly x where t = 0 and exactly h where t = 1.
            return h * t + x * (ops.sigmoid(c[0]) if c else 1 - t)

        def _map(self, x: Any, kernel: Any, bias: Any) -> Any:
            # The operators @ and + of the tensors: ops.matmul converts float64 to float32 on all backends except
            # TensorFlow (keras-team/keras#23704).
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
        """Highway version of Dense: each unit learns how much to transform and how much to carry its input.

            y = H(x)·T(x) + x·(1 - T(x)),     H = activation(x W_H + b_H),  T = sigmoid(x W_T + b_T)

        Inputs have shape (batch, ..., width); the width is taken from the first input. With carry="independent",
        y = H·T + x·C. `kernels` and `biases` hold the parameters of H, T and, if independent, C.

        Args:
            activation: activation of H, in any form Keras accepts.
            gate_bias: initial value of b_T; negative values make the layer initially carry its input. The bias of an
                independent carry gate starts at -gate_bias.
            carry: "coupled" (C = 1 - T) or "independent" (C has its own weights).
            kernel_initializer: initializer of each map's kernel, with different random numbers per map. None uses the
                scheme of thruway.nn.HighwayLinear: Glorot uniform, for H times the gain of the activation.
            bias_initializer: initializer of b_H.
            kernel_regularizer, kernel_constraint: applied to each map's kernel.
            bias_regularizer, bias_constraint: applied to each map's bias. Note that weight decay on the gate bias opens
                the gates.
            activity_regularizer, name, dtype, trainable: see `keras.layers.Layer`.
        Raises:
            ConfigError: if `carry` is unknown, `gate_bias` is not a number, or an argument of Dense such as `units` is
                passed.
            ShapeError: if the width of an input is unknown or differs from that of the first input.
        Source:
            Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), eqs. 2-3, sec. 2.2.
        """

        def __init__(
            self, activation: Any = "relu", gate_bias: float = -2.0, carry: str = "coupled", **arguments: Any
        ) -> None:
            super().__init__(activation, gate_bias, carry, **arguments)
            self.supports_masking = True

    class _HighwayConv(_Highway):
        """Signature shared by the two convolutional layers."""

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
            # One channel is a placeholder; the input determines the number.
            self.conv = same_conv(self.dims, 1, kernel_size, dilation_rate, 1, "zeros")
            self.data_format = accept_data_format(data_format or keras.config.image_data_format())

    class HighwayConv1D(_HighwayConv):
        """1D convolutional highway layer: HighwayDense with convolutions that preserve the input size.

        Args:
            kernel_size: size of the kernel, an odd number.
            dilation_rate: spacing between kernel elements.
            data_format: "channels_last", (batch, steps, channels), or "channels_first". Default: Keras's setting.
            activation, gate_bias, carry, ...: as in HighwayDense.
        Raises:
            ConfigError: if the kernel size is even, an argument of Conv1D such as `filters` or `strides` is passed, or
                as in HighwayDense.
            ShapeError: as in HighwayDense.
        Source:
            Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), secs. 2.1-2.2.
        """

        dims = 1
        example = 'HighwayConv1D(3, activation="relu"), with the kernel size first'

    class HighwayConv2D(_HighwayConv):
        """2D convolutional highway layer. Like HighwayConv1D, but kernel_size and dilation_rate are ints or pairs."""

        dims = 2
        example = 'HighwayConv2D(3, activation="relu"), with the kernel size first'

    classes = {kind.__name__: kind for kind in (HighwayDense, HighwayConv1D, HighwayConv2D)}
    for name, kind in classes.items():
        # The module from which users and pickle import them.
        kind.__module__, kind.__qualname__ = PUBLIC_MODULE, name
        keras.saving.register_keras_serializable("thruway")(kind)
    return classes
