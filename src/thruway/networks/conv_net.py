"""Sequential convolutional network with a classifier, the usual structure before residual networks."""

from torch import Tensor, nn

from thruway.errors import ShapeError
from thruway.networks.images import check_images

__all__ = ["ConvNet"]


class ConvNet(nn.Module):
    """A sequence of layers and a classifier: logits = head(layers(x)).

    Layers are named and numbered from the input on: conv1, highway2, ... The pooling and dropout layers in between are
    not counted.

    Args:
        layers: module from (batch, inputs, height, width) to feature maps.
        head: module from feature maps to (batch, classes), without a softmax, which the loss applies.
        inputs: channels of the images.
        size: height and width of the images, if the head depends on them. If None, any size is accepted.
    Raises:
        ShapeError: when called on an input that is not a batch of images with `inputs` channels, or of a different size
            or dtype.

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
                f"{tuple(x.shape)}. Build the network with size= the height and width of your images."
            )
        logits: Tensor = self.head(self.layers(x))
        return logits
