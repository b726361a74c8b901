import dataclasses
import os

import numpy as np
import pytest
import torch
from dataset_files import IN_FILES, noise, shrunk, write_part

from thruway.data import DATASETS, TensorSet, batches, load
from thruway.errors import ConfigError, DatasetError


@pytest.mark.parametrize("name", IN_FILES)
@pytest.mark.parametrize("train", [True, False])
def test_every_set_loads_from_torchvisions_layout(tmp_path, monkeypatch, name, train):
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
    """The field normalises it with mean 0.2860 and standard deviation 0.3530 of the training part."""
    train = load("fashion-mnist")
    mean, std = train.moments()
    assert (round(mean, 4), round(std, 4)) == (0.2860, 0.3530)
    assert train.labels.bincount().tolist() == [6000] * 10
    assert load("fashion-mnist", train=False).labels.bincount().tolist() == [1000] * 10


def test_moments_agree_with_float64():
    digits = load("digits")
    exact = digits.images.double().numpy()
    mean, std = digits.moments()
    # float32 keeps 24 bits, and the sums run over 90,560 values in blocks: 1e-6 is some ten roundings.
    assert mean == pytest.approx(exact.mean(), rel=1e-6)
    assert std == pytest.approx(exact.std(), rel=1e-6)


def test_a_standardised_set_has_mean_zero_and_deviation_one():
    train = load("digits")
    mean, std = train.standardised().moments()
    assert abs(mean) < 1e-6
    assert abs(std - 1) < 1e-6
    assert train.images.min() == 0  # the original is left alone


def test_the_test_part_is_standardised_with_the_training_parts_moments():
    train, test = load("digits"), load("digits", train=False)
    mean, std = train.moments()
    got = test.standardised(mean, std).images.double()
    expected = (test.images.double() - mean) / std
    assert torch.allclose(got, expected, rtol=0, atol=1e-6)  # two roundings of numbers up to 2
    assert abs(got.mean()) > 1e-4  # so the moments were not the test part's own


def test_one_moment_may_be_given():
    digits = load("digits")
    mean, std = digits.moments()
    assert torch.equal(digits.standardised(mean=mean).images, digits.standardised(mean, std).images)
    assert torch.equal(digits.standardised(std=2.0).images, (digits.images - mean) / 2)


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan"), float("inf")])
def test_a_deviation_that_is_none_is_refused(std):
    with pytest.raises(ConfigError, match="both must be finite and std above 0"):
        load("digits").standardised(0.5, std)


def test_equal_pixels_cannot_be_standardised():
    blank = TensorSet("blank", torch.ones(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64), ("a",), "here")
    with pytest.raises(ConfigError, match="cannot standardise blank"):
        blank.standardised()


def test_flat_rows_are_the_images_pixel_by_pixel():
    digits = load("digits", limit=5)
    flat = digits.flat()
    assert torch.equal(flat.images[3], torch.cat([digits.images[3, 0, row] for row in range(8)]))
    assert torch.equal(flat.flat().images, flat.images)


def test_a_limit_takes_every_part_of_the_file(tmp_path, monkeypatch):
    """A sorted file must not shrink to its first classes."""
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


def test_a_batch_keeps_image_and_label_together():
    digits = load("digits")
    for indices in batches(len(digits), 100, seed=1, epoch=0):
        images, labels = digits.batch(indices)
        assert torch.equal(images, torch.stack([digits.images[i] for i in indices]))
        assert labels.tolist() == [int(digits.labels[i]) for i in indices]


def test_each_image_needs_a_label():
    with pytest.raises(DatasetError, match="odd: 3 images but 2 labels"):
        TensorSet("odd", torch.zeros(3, 1), torch.zeros(2, dtype=torch.int64), ("a",), "here")


def test_to_moves_images_and_labels():
    moved = load("digits", limit=3).to("meta")
    assert moved.images.device.type == moved.labels.device.type == "meta"
    loaded = load("digits", device="meta", limit=3)
    assert loaded.images.device.type == loaded.labels.device.type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gets_the_same_bits():
    here, there = load("digits"), load("digits", device="cuda")
    assert torch.equal(here.images, there.images.cpu())
    indices = next(batches(len(here), 100, seed=0, epoch=0))
    assert torch.equal(here.batch(indices)[0], there.batch(indices)[0].cpu())
