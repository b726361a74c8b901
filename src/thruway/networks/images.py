"""What the networks on images share: how they come into being, and what they take."""

from typing import TypeVar

import torch
from torch import Tensor, nn

from thruway.errors import ShapeError
from thruway.init import initialize
from thruway.nn.argument_checks import check_dtype, check_generator, check_tensor

__all__ = ["check_images", "materialize_"]

Net = TypeVar("Net", bound=nn.Module)


def materialize_(
    net: Net,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
    generator: torch.Generator | None,
    scheme: str = "he_normal",
) -> Net:
    """Give a net that was built on the meta device memory and its first numbers: He's weights, norms as the identity.

    torch's own layers draw from the global generator as they are built. On the meta device they draw nothing, and so
    `generator` decides everything.
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
    """`x`, if it is a batch of images of `channels`, of the type of the convolution that it meets first.

    Raises:
        ShapeError: if it is not.
    """
    kind = type(net).__name__
    if check_tensor(kind, x).dim() != 4 or x.shape[1] != channels:
        raise ShapeError(
            f"{kind} works on batches of images, (batch, {channels}, height, width), got an input of shape "
            f"{tuple(x.shape)}. Give a single image a batch axis (x.unsqueeze(0)), or build the net with inputs= the "
            "channels of its images, 1 for grey ones."
        )
    layers = (layer for layer in net.modules() if next(layer.children(), None) is None)
    first = next((layer for layer in layers if not isinstance(layer, nn.Dropout)), None)
    # A layer of the user's own may turn the images into its type, and sharded weights show theirs only later.
    if type(first) is nn.Conv2d and type(first.weight) in (Tensor, nn.Parameter):
        check_dtype(kind, x, first.weight)
    return x
