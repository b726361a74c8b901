"""A chain of convolutional layers with a classifier on top: the shape of the nets before residual ones."""

from torch import Tensor, nn

from thruway.errors import ShapeError
from thruway.networks.images import check_images

__all__ = ["ConvNet"]


class ConvNet(nn.Module):
    """Layers one after the other, and a classifier: logits = head(layers(x)).

    Layers are named and numbered from the images upwards, conv1, highway2, ..., as they are counted; poolings and
    dropout lie between them, so that leaving those out renames nothing.

    Args:
        layers: (batch, inputs, height, width) to maps.
        head: maps to (batch, classes), without a softmax: the loss applies it.
        inputs: channels of the images.
        size: side of the images, where the head has one weight for each point of the map; None for any size.
    Raises:
        ShapeError: when called on something that is no batch of images with `inputs` channels, or of another size
            or type.

    >>> import torch
    >>> net = ConvNet(nn.Sequential(), nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), inputs=1, size=4)
    >>> net(torch.zeros(5, 1, 4, 4)).shape
    torch.Size([5, 3])
    """

    def __init__(self, layers: nn.Module, head: nn.Module, inputs: int, size: int | None = None) -> None:
        super().__init__()
        self.inputs = inputs
        self.size = size
        self.layers = layers
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, self.inputs)
        if self.size is not None and tuple(x.shape[2:]) != (self.size, self.size):
            raise ShapeError(
                f"this ConvNet was built for images of {self.size}x{self.size}, got an input of shape "
                f"{tuple(x.shape)}. Build it with size= the side of its images."
            )
        logits: Tensor = self.head(self.layers(x))
        return logits
