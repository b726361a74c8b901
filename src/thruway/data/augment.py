"""Image preprocessing and augmentation of the papers: contrast normalisation, small translations, mirroring.

The functions work on batches, on the device of the images. Only the few random numbers per image are drawn on the CPU,
so that a seed gives the same images on every device.
"""

from numbers import Integral
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from thruway.errors import ConfigError, ShapeError, unknown_name

__all__ = ["contrast_normalised", "shifted_and_mirrored"]

_FILLS = {"edge": "replicate", "zeros": "constant"}  # fill -> mode of torch.nn.functional.pad


def contrast_normalised(images: Tensor) -> Tensor:
    """Normalise each image to mean 0 and standard deviation 1 over all its values (global contrast normalisation).

    An image of one colour becomes 0.

    Args:
        images: (batch, channels, height, width), or any shape with the images along its first axis; floating point.
    Raises:
        ShapeError: if the input is not a floating-point tensor with at least two axes.
    Source:
        Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), sec. 3.4 and the authors' settings, where
        it comes before the translations. They do not state the scale; 1 is our choice.

    >>> contrast_normalised(torch.tensor([[1.0, 3.0], [5.0, 5.0]]))
    tensor([[-1.,  1.],
            [ 0.,  0.]])
    """
    _accept_images("contrast_normalised", images)
    if images.ndim < 2:
        raise ShapeError(f"contrast_normalised expects a batch of images, (batch, ...), got {tuple(images.shape)}.")
    if not images.is_floating_point():
        raise ShapeError(
            f"contrast_normalised expects floating-point images, got {images.dtype}. Convert them first: "
            "contrast_normalised(images.float())."
        )
    dims = tuple(range(1, images.ndim))
    # In float64 the mean of an image of one colour is exact, so the difference is 0 and not amplified rounding noise.
    std, mean = torch.std_mean(images.double(), dim=dims, keepdim=True, correction=0)
    scale = std.masked_fill(std == 0, torch.inf)
    return ((images - mean) / scale).to(images.dtype)


def shifted_and_mirrored(
    images: Tensor,
    generator: torch.Generator,
    reach: int | None = None,
    fill: Literal["edge", "zeros"] = "edge",
    mirror: bool = True,
) -> Tensor:
    """Shift each image by a random offset and mirror it with probability 1/2.

    Args:
        images: (batch, channels, height, width)
        generator: generator on the CPU.
        reach: maximum shift in pixels, in each direction. Default: an eighth of the height.
        fill: values beyond the edge: "edge" repeats the outermost pixels, "zeros" pads with 0.
        mirror: if True, mirror each image left to right with probability 1/2.
    Returns:
        A tensor of the same shape, contiguous if the input is.
    Raises:
        ConfigError: if `reach`, `fill` or `generator` is invalid.
        ShapeError: if the input is not a batch of images.
    Source:
        He, Zhang, Ren & Sun 2015 (Deep Residual Learning), sec. 4.2: 4 of 32 pixels and zeros; Srivastava, Greff &
        Schmidhuber 2015 (Training Very Deep Networks), sec. 3.4: small translations and mirroring.

    >>> shifted_and_mirrored(torch.ones(2, 1, 8, 8), torch.Generator().manual_seed(0)).unique()
    tensor([1.])
    """
    _accept_images("shifted_and_mirrored", images)
    if images.ndim != 4:
        raise ShapeError(f"images must have shape (batch, channels, height, width), got {tuple(images.shape)}.")
    count, _, height, width = images.shape
    reach = height // 8 if reach is None else reach
    if isinstance(reach, bool) or not isinstance(reach, Integral) or reach < 0:
        raise ConfigError(f"reach must be an integer of at least 0, in pixels, or None, got {reach!r}.")
    if not isinstance(generator, torch.Generator):
        raise ConfigError(
            f"generator must be a torch.Generator on the CPU, got {generator!r}. The global generator is never "
            "used; pass torch.Generator().manual_seed(0)."
        )
    if not isinstance(fill, str) or fill not in _FILLS:
        raise ConfigError(unknown_name("fill", fill, _FILLS))
    if images.dtype == torch.bool and fill == "edge":
        raise ShapeError(
            'fill="edge" does not support torch.bool images. Convert them with images.float(), or pass fill="zeros".'
        )
    padded = F.pad(images, (reach,) * 4, mode=_FILLS[fill]) if reach else images
    down, right = torch.randint(2 * reach + 1, (2, count), generator=generator).to(images.device)
    columns = torch.arange(width, device=images.device).expand(count, width)
    if mirror:
        is_mirrored = (torch.rand(count, generator=generator) < 0.5).to(images.device)
        columns = torch.where(is_mirrored[:, None], columns.flip(1), columns)
    rows = down[:, None] + torch.arange(height, device=images.device)
    columns = columns + right[:, None]
    image = torch.arange(count, device=images.device)[:, None, None]
    # With indices on both sides of a slice, the axis of the slice comes last.
    cut = padded[image, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
    return cut.contiguous() if images.is_contiguous() else cut


def _accept_images(function: str, images: Tensor) -> None:
    if not isinstance(images, Tensor):
        raise ShapeError(
            f"{function} expects a tensor of images, got a {type(images).__name__}. For a data set pass its .images, "
            "for an array torch.as_tensor(array)."
        )
