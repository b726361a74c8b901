"""What the papers do to images before a net sees them: contrast, small translations, mirroring.

Everything works on whole batches, on the device the images lie on. Only the coins fall on the CPU, a few numbers per
image, so that a seed gives the same pictures everywhere.
"""

from numbers import Integral
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from thruway.errors import ConfigError, ShapeError, unknown_name

__all__ = ["contrast_normalised", "shifted_and_mirrored"]

_FILLS = {"edge": "replicate", "zeros": "constant"}  # what torch calls them


def contrast_normalised(images: Tensor) -> Tensor:
    """Global contrast normalisation: each image with mean 0 and standard deviation 1 over all its numbers.

    Brightness and contrast of an image then say nothing; an image of one colour becomes 0.

    Args:
        images: (batch, channels, height, width), or any shape with the images along its first axis; floating point.
    Raises:
        ShapeError: for an input without a batch axis and at least one more, or of whole numbers.
    Source:
        Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), sec. 3.4 and the authors' settings, where
        it goes before the translations. They do not print their scale; 1 is ours.

    >>> contrast_normalised(torch.tensor([[1.0, 3.0], [5.0, 5.0]]))
    tensor([[-1.,  1.],
            [ 0.,  0.]])
    """
    _accept_images("contrast_normalised", images)
    if images.ndim < 2:
        raise ShapeError(f"contrast is that of each image in a batch, (batch, ...), got {tuple(images.shape)}.")
    if not images.is_floating_point():
        raise ShapeError(
            f"what has mean 0 and standard deviation 1 cannot be written in {images.dtype}. Convert the images first: "
            "contrast_normalised(images.float())."
        )
    over = tuple(range(1, images.ndim))
    # In double the mean of one colour is that colour to the last bit: what is left is 0, not a speck to blow up.
    std, mean = torch.std_mean(images.double(), dim=over, keepdim=True, correction=0)
    scale = std.masked_fill(std == 0, torch.inf)
    return ((images - mean) / scale).to(images.dtype)


def shifted_and_mirrored(
    images: Tensor,
    generator: torch.Generator,
    reach: int | None = None,
    fill: Literal["edge", "zeros"] = "edge",
    mirror: bool = True,
) -> Tensor:
    """Each image padded, cut out again at a random place, and mirrored half the time.

    Args:
        images: (batch, channels, height, width)
        generator: on the CPU.
        reach: pixels an image moves at most, up, down, left and right; None for an eighth of its height.
        fill: what lies beyond the edge, the "edge" repeated or "zeros".
        mirror: whether every second image, by a coin, is turned left to right.
    Returns:
        As many images as large, contiguous if the given ones are.
    Raises:
        ConfigError: for a reach that is no number of pixels, an unknown fill, or no generator.
        ShapeError: for an input that is no batch of images.
    Source:
        He, Zhang, Ren & Sun 2015 (Deep Residual Learning), sec. 4.2: 4 of 32 pixels and zeros; Srivastava, Greff &
        Schmidhuber 2015 (Training Very Deep Networks), sec. 3.4: small translations and mirroring.

    >>> shifted_and_mirrored(torch.ones(2, 1, 8, 8), torch.Generator().manual_seed(0)).unique()
    tensor([1.])
    """
    _accept_images("shifted_and_mirrored", images)
    if images.ndim != 4:
        raise ShapeError(f"images are a batch (batch, channels, height, width), got {tuple(images.shape)}.")
    count, _, height, width = images.shape
    reach = height // 8 if reach is None else reach
    if isinstance(reach, bool) or not isinstance(reach, Integral) or reach < 0:
        raise ConfigError(f"reach is a number of pixels, 0 or more, got {reach!r}. Take a whole one, or None.")
    if not isinstance(generator, torch.Generator):
        raise ConfigError(
            f"generator is a torch.Generator on the CPU, got {generator!r}. Pass torch.Generator().manual_seed(0): the "
            "coins never come from torch's global one."
        )
    if not isinstance(fill, str) or fill not in _FILLS:
        raise ConfigError(unknown_name("fill", fill, _FILLS))
    if images.dtype == torch.bool and fill == "edge":
        raise ShapeError(
            'the edge of torch.bool images cannot be repeated. Convert them, images.float(), or pass fill="zeros".'
        )
    padded = F.pad(images, (reach,) * 4, mode=_FILLS[fill]) if reach else images
    down, right = torch.randint(2 * reach + 1, (2, count), generator=generator).to(images.device)
    columns = torch.arange(width, device=images.device).expand(count, width)
    if mirror:
        is_mirrored = (torch.rand(count, generator=generator) < 0.5).to(images.device)
        columns = torch.where(is_mirrored[:, None], columns.flip(1), columns)
    rows = down[:, None] + torch.arange(height, device=images.device)
    columns = columns + right[:, None]
    which = torch.arange(count, device=images.device)[:, None, None]
    # Indices around a slice put the slice last.
    cut = padded[which, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
    return cut.contiguous() if images.is_contiguous() else cut


def _accept_images(what: str, images: Tensor) -> None:
    if not isinstance(images, Tensor):
        raise ShapeError(
            f"{what} takes a tensor of images, got a {type(images).__name__}. Of a data set pass its .images, of an "
            "array torch.as_tensor(array)."
        )
