import dataclasses
import os

import numpy as np
import pytest
import torch
from dataset_files import IN_FILES, noise, shrunk, write_part

from thruway.data import DATASETS, batches, load
from thruway.errors import ConfigError


@pytest.mark.parametrize("name", IN_FILES)
@pytest.mark.parametrize("train", [True, False])
def test_every_set_is_loaded_from_the_layout_of_torchvision(tmp_path, monkeypatch, name, train):
    entry = shrunk(DATASETS[name])
    monkeypatch.setitem(DATASETS, name, entry)
    write_part(entry, tmp_path / entry.folders[0], train)
    got = load(name, tmp_path, train)
    images, labels = noise(entry, train)
    if name.startswith("emnist"):
        images = images.swapaxes(2, 3)  # stored transposed
    assert np.array_equal(got.images.numpy(), images.astype(np.float32) / np.float32(255))
    assert got.labels.tolist() == labels.tolist()
    assert (got.images.dtype, got.labels.dtype) == (torch.float32, torch.int64)
    assert (got.classes, got.source) == (entry.classes, str(tmp_path / entry.folders[0]))
    assert len(got) == len(labels)


@pytest.mark.skipif(not os.path.isdir("/usr/share/datasets/fashion-mnist"), reason="needs dataset-fashion-mnist")
def test_fashion_mnist_has_the_published_moments():
    """The commonly used mean 0.2860 and standard deviation 0.3530 of the training part."""
    train = load("fashion-mnist")
    mean, std = train.moments()
    assert (round(mean, 4), round(std, 4)) == (0.2860, 0.3530)
    assert train.labels.bincount().tolist() == [6000] * 10
    assert load("fashion-mnist", train=False).labels.bincount().tolist() == [1000] * 10


def test_a_limit_samples_the_whole_file(tmp_path, monkeypatch):
    """A limit on a sorted file must not select only the first classes."""
    from dataset_files import idx_bytes

    entry = DATASETS["mnist"]
    entry = dataclasses.replace(entry, train=dataclasses.replace(entry.train, counts=(1000,)))
    monkeypatch.setitem(DATASETS, "mnist", entry)
    folder = tmp_path / "MNIST/raw"
    folder.mkdir(parents=True)
    labels = np.repeat(np.arange(10, dtype=np.uint8), 100)
    (folder / entry.train.files[0]).write_bytes(idx_bytes(np.zeros((1000, 28, 28), np.uint8) + labels[:, None, None]))
    (folder / entry.train.files[1]).write_bytes(idx_bytes(labels))
    few = load("mnist", tmp_path, limit=30)
    assert few.labels.bincount().tolist() == [3] * 10
    assert torch.equal((few.images[:, 0, 0, 0] * 255).round().long(), few.labels)


def test_a_limit_beyond_the_set_is_the_whole_set():
    assert torch.equal(load("digits", limit=10**6).images, load("digits").images)


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_below_one_is_refused(limit):
    with pytest.raises(ConfigError, match=f"got {limit}, allowed: 1 or more"):
        load("digits", limit=limit)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_holds_the_same_bits():
    here, there = load("digits"), load("digits", device="cuda")
    assert torch.equal(here.images, there.images.cpu())
    indices = next(batches(len(here), 100, seed=0, epoch=0))
    assert torch.equal(here.batch(indices)[0], there.batch(indices)[0].cpu())
