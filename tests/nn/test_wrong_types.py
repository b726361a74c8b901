"""Inputs of a different dtype than the weights, and arguments that are not tensors, generators or bools."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from thruway.errors import ConfigError, ShapeError
from thruway.nn import HighwayConv1d, HighwayConv2d, HighwayConv3d, HighwayLinear, HighwayStack, RecurrentHighway
from thruway.nn.recurrent_cell import RecurrentHighwayCell

BLOCKS = {
    "linear": (lambda **of: HighwayLinear(4, **of), (2, 4)),
    "conv1d": (lambda **of: HighwayConv1d(4, 3, **of), (2, 4, 5)),
    "conv2d": (lambda **of: HighwayConv2d(4, 3, **of), (2, 4, 5, 5)),
    "conv3d": (lambda **of: HighwayConv3d(4, 3, carry="independent", **of), (2, 4, 5, 5, 5)),
    "stack": (lambda **of: HighwayStack(4, 3, **of), (2, 4)),
    "recurrent": (lambda **of: RecurrentHighway(4, 3, 2, **of), (5, 2, 4)),
    "cell": (lambda **of: RecurrentHighwayCell(4, 3, 2, **of), (2, 4)),
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float64, torch.bfloat16], ids=str)
def test_an_input_of_another_dtype_raises_with_both_dtypes(name, dtype):
    build, shape = BLOCKS[name]
    said = rf"torch\.float32 parameters, got a {dtype} input\. Convert one of them, for .* x\.to\(torch\.float32\)"
    with pytest.raises(ShapeError, match=said):
        build()(torch.ones(shape).to(dtype))


@pytest.mark.parametrize("name", BLOCKS)
def test_integers_raise_under_autocast_too(name):
    """Autocast converts floating-point inputs only."""
    build, shape = BLOCKS[name]
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(ShapeError, match=r"got a torch\.int64 input"):
        build()(torch.ones(shape, dtype=torch.int64))


@pytest.mark.parametrize("name", ["linear", "conv1d", "conv2d", "conv3d", "stack"])
def test_autocast_still_converts_dtypes(name):
    """A bfloat16 input under autocast agrees with a float32 input to bfloat16 precision."""
    build, shape = BLOCKS[name]
    block = build(generator=torch.Generator().manual_seed(0))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = block(x.bfloat16())
    # Three layers, each of which rounds by 2^-9 of numbers up to 4.
    torch.testing.assert_close(narrow.float(), block(x), rtol=0, atol=0.05)


@pytest.mark.parametrize("name", ["linear", "conv1d", "conv2d", "conv3d", "cell"])
def test_the_dtype_check_uses_the_current_weights(name):
    """In a functional call with complex weights, complex inputs are accepted and real ones raise."""
    build, shape = BLOCKS[name]
    block = build(activation="tanh", dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = {key: value.to(torch.complex128) for key, value in block.state_dict().items()}
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = functional_call(block, weights, (x.to(torch.complex128),))
    torch.testing.assert_close(found.real, block(x), rtol=0, atol=1e-13)  # sums of 100 products of numbers near 1
    with pytest.raises(ShapeError, match=r"torch\.complex128 parameters, got a torch\.float64 input"):
        functional_call(block, weights, (x,))


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("make", [np.ones, lambda shape: torch.ones(shape).tolist()], ids=["numpy", "list"])
def test_inputs_other_than_tensors_raise(name, make):
    build, shape = BLOCKS[name]
    with pytest.raises(ShapeError, match=r"takes a tensor, got a (numpy\.ndarray|list)\..*torch\.as_tensor\(x\)"):
        build()(make(shape))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        *((name, "generator") for name in ("linear", "conv1d", "conv2d", "conv3d", "recurrent", "cell")),
        ("recurrent", "coins"),
        ("cell", "coins"),
    ],
)
def test_a_seed_instead_of_a_generator_raises(name, what):
    with pytest.raises(ConfigError, match=rf"{what} must be a torch\.Generator or None, got 5\. .*manual_seed\(0\)"):
        BLOCKS[name][0](**{what: 5})


@pytest.mark.parametrize("value", ["yes", 1, None], ids=str)
def test_batch_first_must_be_a_bool(value):
    with pytest.raises(ConfigError, match=f"batch_first must be True or False, got {value!r}"):
        RecurrentHighway(3, 4, 2, batch_first=value)


def test_the_state_of_an_lstm_raises():
    h = torch.zeros(2, 4)
    layer = RecurrentHighway(3, 4, 2)
    x = torch.ones(5, 2, 3)
    for call in (lambda: layer(x, (h, h)), lambda: layer.cell(x[0], (h, h)), lambda: layer(_packed(), (h, h))):
        with pytest.raises(ShapeError, match=r"one tensor of shape \(2, 4\).*got a tuple\..*\(h, c\)"):
            call()


@pytest.mark.parametrize(
    "masks", [torch.ones(2, 3), (None, None), {}, 0], ids=["tensor", "plain pair", "empty dict", "zero"]
)
def test_masks_must_be_dropout_masks(masks):
    with pytest.raises(ConfigError, match=r"masks must be DropoutMasks.*got a \w+\. .*cell\.draw_masks\(batch\)"):
        RecurrentHighwayCell(3, 4, 2)(torch.ones(2, 3), None, masks)


def _packed():
    return nn.utils.rnn.pack_sequence([torch.ones(5, 3), torch.ones(2, 3)])
