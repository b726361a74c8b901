"""Functions shared by image networks: initialisation, and checks of inputs."""

from typing import TypeVar

import torch
from torch import Tensor, nn

from thruway.errors import ShapeError
from thruway.init import initialize
from thruway.nn.checks import check_dtype, check_generator, check_tensor

__all__ = ["check_images", "materialize_"]

Net = TypeVar("Net", bound=nn.Module)


def materialize_(
    net: Net,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
    generator: torch.Generator | None,
    scheme: str = "he_normal",
) -> Net:
    """Allocate and initialise a network built on the meta device: weights by `scheme`, norms as the identity.

    PyTorch's layers draw from the global generator when they are built, except on the meta device. This way all weights
    are drawn from `generator`.
    """
    check_generator("generator", generator)
    net = net.to_empty(device=torch.get_default_device() if device is None else device)
    if dtype is not None:
        net = net.to(dtype=dtype)
    if any(parameter.is_meta for parameter in net.parameters()):
        return net
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
    initialize(net, scheme, generator=generator)
    return net


def check_images(net: nn.Module, x: Tensor, channels: int) -> Tensor:
    """Return `x` if it is a batch of images with these channels and the dtype of the first convolution.

    Raises:
        ShapeError: if it is anything else.
    """
    kind = type(net).__name__
    if check_tensor(kind, x).dim() != 4 or x.shape[1] != channels:
        raise ShapeError(
            f"{kind} takes batches of images, (batch, {channels}, height, width), got an input of shape "
            f"{tuple(x.shape)}. Add a batch dimension to a single image (x.unsqueeze(0)). If the number of channels "
            "differs, build the network with inputs=channels, 1 for greyscale."
        )
    layers = (layer for layer in net.modules() if next(layer.children(), None) is None)
    first = next((layer for layer in layers if not isinstance(layer, nn.Dropout)), None)
    # A custom layer may convert the images to its dtype, and sharded weights are not checked here.
    if type(first) is nn.Conv2d and type(first.weight) in (Tensor, nn.Parameter):
        check_dtype(kind, x, first.weight)
    return x
