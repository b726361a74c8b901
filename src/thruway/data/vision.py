"""Map-style data sets with the same names, arguments and disk layout as in torchvision.

An item is (image, label). The image is a uint8 NumPy array, (H, W) or (H, W, 3), which torchvision's `ToTensor` and
`ToImage` accept and which does not need Pillow. For training, `load` is faster.
"""

import os
from collections.abc import Callable
from typing import Any

from torch.utils.data import Dataset

from thruway.data.datasets import EMNIST_SPLITS
from thruway.data.entry import Raw
from thruway.data.loading import read
from thruway.errors import ConfigError, unknown_name

__all__ = ["CIFAR10", "CIFAR100", "EMNIST", "KMNIST", "MNIST", "FashionMNIST"]

Transform = Callable[[Any], Any] | None
Root = str | os.PathLike[str] | None


class _Items(Dataset[tuple[Any, Any]]):
    """Shared item access of the data sets below."""

    data: Any
    targets: Any
    classes: list[str]
    transform: Transform
    target_transform: Transform

    def _set_data(self, raw: Raw, transform: Transform, target_transform: Transform) -> None:
        self.classes = list(raw.classes)
        self.class_to_idx = {name: label for label, name in enumerate(self.classes)}
        self.transform, self.target_transform = transform, target_transform
        if (
            raw.images.shape[1] == 1
        ):  # attribute types as in torchvision: tensors for grey images, array and list for colour
            self.data, self.targets = raw.images[:, 0], raw.labels
        else:
            self.data, self.targets = raw.images.permute(0, 2, 3, 1).contiguous().numpy(), raw.labels.tolist()

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, label = self.data[index], int(self.targets[index])
        image = image if isinstance(self.targets, list) else image.numpy()
        return (
            self.transform(image) if self.transform else image,
            self.target_transform(label) if self.target_transform else label,
        )

    def __len__(self) -> int:
        return len(self.data)


class MNIST(_Items):
    """MNIST: 60,000 + 10,000 handwritten digits, 28 x 28. Read from <root>/MNIST/raw/train-images-idx3-ubyte[.gz]."""

    def __init__(
        self,
        root: Root = None,
        train: bool = True,
        transform: Transform = None,
        target_transform: Transform = None,
        download: bool = False,
    ) -> None:
        self._set_data(read("mnist", root, train, download=download), transform, target_transform)


class FashionMNIST(_Items):
    """Fashion-MNIST: clothing, same format as MNIST. Read from <root>/FashionMNIST/raw/ or Debian's data folder."""

    def __init__(
        self,
        root: Root = None,
        train: bool = True,
        transform: Transform = None,
        target_transform: Transform = None,
        download: bool = False,
    ) -> None:
        self._set_data(read("fashion-mnist", root, train, download=download), transform, target_transform)


class KMNIST(_Items):
    """Kuzushiji-MNIST: cursive Japanese, format of MNIST. Read from <root>/KMNIST/raw/train-images-idx3-ubyte[.gz]."""

    def __init__(
        self,
        root: Root = None,
        train: bool = True,
        transform: Transform = None,
        target_transform: Transform = None,
        download: bool = False,
    ) -> None:
        self._set_data(read("kmnist", root, train, download=download), transform, target_transform)


class EMNIST(_Items):
    """EMNIST: letters and digits, 28 x 28. Read from <root>/EMNIST/raw/emnist-<split>-train-images-idx3-ubyte[.gz].

    The files store every image transposed. Here the images are upright; torchvision returns them transposed.
    """

    def __init__(
        self,
        root: Root = None,
        split: str = "balanced",
        train: bool = True,
        transform: Transform = None,
        target_transform: Transform = None,
        download: bool = False,
    ) -> None:
        if split not in EMNIST_SPLITS:
            raise ConfigError(unknown_name("EMNIST split", split, EMNIST_SPLITS))
        self.split = split
        self._set_data(read(f"emnist-{split}", root, train, download=download), transform, target_transform)


class CIFAR10(_Items):
    """CIFAR-10, binary version: 32 x 32, colour. Read from <root>/cifar-10-batches-bin/data_batch_1.bin etc."""

    def __init__(
        self,
        root: Root = None,
        train: bool = True,
        transform: Transform = None,
        target_transform: Transform = None,
        download: bool = False,
    ) -> None:
        self._set_data(read("cifar10", root, train, download=download), transform, target_transform)


class CIFAR100(_Items):
    """CIFAR-100, binary version, fine labels. Read from <root>/cifar-100-binary/train.bin and test.bin."""

    def __init__(
        self,
        root: Root = None,
        train: bool = True,
        transform: Transform = None,
        target_transform: Transform = None,
        download: bool = False,
    ) -> None:
        self._set_data(read("cifar100", root, train, download=download), transform, target_transform)
