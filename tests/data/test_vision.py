import inspect
import pickle

import numpy as np
import pytest
import torch
from dataset_files import noise, shrunk, write_part

from thruway.data import CIFAR10, CIFAR100, DATASETS, EMNIST, KMNIST, MNIST, FashionMNIST
from thruway.errors import ConfigError, DatasetError

ROWS = {
    "mnist": MNIST,
    "fashion-mnist": FashionMNIST,
    "kmnist": KMNIST,
    "emnist-letters": lambda root, **options: EMNIST(root, "letters", **options),
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
}
GREY = [name for name in ROWS if "mnist" in name]
COLOUR = [name for name in ROWS if "cifar" in name]


@pytest.fixture
def written(tmp_path, monkeypatch):
    for name in ROWS:
        monkeypatch.setitem(DATASETS, name, shrunk(DATASETS[name]))
        for train in (True, False):
            write_part(DATASETS[name], tmp_path / DATASETS[name].folders[0], train, zipped=train)
    return tmp_path


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", ROWS)
def test_items_are_the_images_and_labels_of_the_files(written, name, train):
    images, labels = noise(DATASETS[name], train)
    got = ROWS[name](str(written), train=train)
    assert len(got) == len(labels)
    for i, label in enumerate(labels):
        image, target = got[i]
        upright = images[i].swapaxes(1, 2) if name.startswith("emnist") else images[i]
        assert np.array_equal(image, upright[0] if name in GREY else upright.transpose(1, 2, 0))
        assert (image.dtype, type(target), target) == (np.uint8, int, label)
    assert np.array_equal(got[-1][0], got[len(got) - 1][0])
    assert got.class_to_idx[got.classes[-1]] == labels[-1]


@pytest.mark.parametrize("name", GREY)
def test_grey_attributes_are_tensors(written, name):
    got = ROWS[name](written)
    assert isinstance(got.data, torch.Tensor)
    assert got.data.shape == (20, 28, 28)
    assert got.targets.tolist() == noise(DATASETS[name], True)[1].tolist()


@pytest.mark.parametrize("name", COLOUR)
def test_colour_attributes_are_an_array_and_a_list(written, name):
    got = ROWS[name](written)
    assert isinstance(got.data, np.ndarray)
    assert got.data.shape == (20, 32, 32, 3)
    assert got.targets == noise(DATASETS[name], True)[1].tolist()


def test_transforms_are_applied(written):
    got = MNIST(written, transform=lambda image: int(image.sum()), target_transform=lambda label: -label)
    images, labels = noise(DATASETS["mnist"], True)
    assert got[3] == (int(images[3].sum()), -int(labels[3]))


def test_iteration_stops_at_the_end(written):
    assert len(list(iter(MNIST(written)))) == 20


def test_a_data_loader_can_use_them(written):
    loader = torch.utils.data.DataLoader(CIFAR10(written), batch_size=5)
    images = torch.cat([image for image, _label in loader])
    assert torch.equal(images, torch.from_numpy(noise(DATASETS["cifar10"], True)[0]).permute(0, 2, 3, 1))


def test_they_can_be_pickled(written):
    copy = pickle.loads(pickle.dumps(KMNIST(written)))
    assert np.array_equal(copy[4][0], KMNIST(written)[4][0])


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST, KMNIST, CIFAR10, CIFAR100])
def test_the_arguments_are_those_of_torchvision(kind):
    expected = ["root", "train", "transform", "target_transform", "download"]
    assert list(inspect.signature(kind).parameters) == expected


def test_an_unknown_split_lists_the_known_splits(tmp_path):
    assert list(inspect.signature(EMNIST).parameters)[:2] == ["root", "split"]
    with pytest.raises(ConfigError, match=r"unknown EMNIST split 'letter'; did you mean 'letters'\?"):
        EMNIST(tmp_path, "letter")


def test_missing_data_is_not_replaced(tmp_path):
    with pytest.raises(DatasetError, match=r"Kuzushiji-MNIST \(training part\) was not found"):
        KMNIST(tmp_path)
