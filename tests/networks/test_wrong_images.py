"""Errors common to the networks on images: images of a different dtype than the weights, invalid generators."""

import numpy as np
import pytest
import torch
from torch import nn

from thruway.errors import ConfigError, ShapeError
from thruway.networks import fitnet, gated_resnet, highway_conv, resnet, vgg

NETS = {
    "highway_conv": lambda **of: highway_conv("mnist", size=8, width=4, **of),
    "fitnet": lambda **of: fitnet(1, inputs=1, widths=[[4]], hidden=3, dropout=0.2, **of),
    "gated_resnet": lambda **of: gated_resnet(8, inputs=1, widths=(2, 4, 8), **of),
    "resnet": lambda **of: resnet(8, inputs=1, widths=(2, 4, 8), **of),
    "vgg": lambda **of: vgg(inputs=1, widths=[[4]], hidden=[], **of),
}
SHAPE = (2, 1, 8, 8)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_images_of_another_dtype_raise_with_both_dtypes(name, dtype, training):
    net = NETS[name]().train(training)
    said = rf"{type(net).__name__} has torch\.float32 parameters, got a {dtype} input\. .*x\.to\(torch\.float32\)"
    with pytest.raises(ShapeError, match=said):
        net(torch.ones(SHAPE).to(dtype))


@pytest.mark.parametrize("name", NETS)
def test_inputs_other_than_tensors_raise(name):
    with pytest.raises(ShapeError, match=r"takes a tensor, got a numpy\.ndarray\. .*torch\.as_tensor\(x\)"):
        NETS[name]()(np.ones(SHAPE, np.float32))


@pytest.mark.parametrize("name", NETS)
def test_autocast_compile_and_functional_calls_take_their_own_types(name):
    """None of them raises, and all give the results of the network."""
    net = NETS[name](generator=torch.Generator().manual_seed(0)).eval()
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    wanted = net(x)
    # The same operations in the same order, or in float64: roundings of 1e-7 in numbers near 1.
    torch.testing.assert_close(torch.compile(net, fullgraph=True, backend="eager")(x), wanted, rtol=1e-5, atol=1e-5)
    double = {key: value.double() if value.is_floating_point() else value for key, value in net.state_dict().items()}
    called = torch.func.functional_call(net, double, (x.double(),))
    torch.testing.assert_close(called.float(), wanted, rtol=1e-5, atol=1e-5)
    each = torch.func.vmap(lambda image: net(image[None])[0])(x)
    torch.testing.assert_close(each, wanted, rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        # Both start with the same bfloat16 images, so that only the dtype of the carried x differs.
        torch.testing.assert_close(net(x.bfloat16()).float(), net(x).float(), rtol=0.05, atol=0.05)


def test_a_custom_first_layer_may_take_other_dtypes():
    """A network that takes integers and converts them itself."""

    class Scaled(nn.Module):
        def forward(self, x):
            return x.float() / 255

    net = NETS["resnet"]().eval()
    x = torch.randint(256, SHAPE, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    wanted = net(x.float() / 255)
    net.stem = nn.Sequential(Scaled(), net.stem)
    assert torch.equal(net(x), wanted)


@pytest.mark.parametrize(
    ("name", "what"), [*((name, "generator") for name in NETS), *((name, "coins") for name in NETS if name != "vgg")]
)
def test_a_seed_instead_of_a_generator_raises(name, what):
    with pytest.raises(ConfigError, match=rf"{what} must be a torch\.Generator or None, got 0\. .*manual_seed\(0\)"):
        NETS[name](**{what: 0})


@pytest.mark.parametrize("value", [0.5, "no", 1, None], ids=str)
def test_dropout_of_a_highway_network_must_be_a_bool(value):
    with pytest.raises(
        ConfigError, match=f"dropout must be True or False, got {value!r}. The rates are fixed to the published ones"
    ):
        highway_conv("mnist", dropout=value, device="meta")
