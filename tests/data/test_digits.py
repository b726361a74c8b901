import hashlib
from importlib import resources

import numpy as np
import pytest
import torch

from thruway.data import DATASETS, load, read
from thruway.data import digits as digits_module
from thruway.data.embed_digits import embed
from thruway.errors import DatasetError


def both_parts():
    train, test = read("digits"), read("digits", train=False)
    return torch.cat([train.images, test.images]), torch.cat([train.labels, test.labels]), len(train.labels)


def test_the_digits_are_those_of_scikit_learn():
    source = pytest.importorskip("sklearn.datasets").load_digits()
    images, labels, _split = both_parts()
    assert np.array_equal(images[:, 0].numpy(), source.images)
    assert np.array_equal(labels.numpy(), source.target)


def test_the_command_writes_the_committed_arrays(tmp_path):
    pytest.importorskip("sklearn")
    embed(tmp_path / "digits.npz")
    embed(tmp_path / "again.npz")
    made = [hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in ("digits.npz", "again.npz")]
    assert made[0] == made[1]
    # Arrays, not bytes: another version of zlib compresses them differently.
    with np.load(tmp_path / "digits.npz") as new, np.load(str(resources.files("thruway.data") / "digits.npz")) as old:
        assert sorted(new) == sorted(old) == ["images", "labels"]
        assert all(np.array_equal(new[key], old[key]) and new[key].dtype == old[key].dtype for key in new)


def test_the_split_falls_between_two_forms():
    """Every form opens with the ten digits in order, twice; the test part starts with such an opening."""
    _images, labels, split = both_parts()
    opening = list(range(10)) * 2
    starts = [i for i in range(len(labels) - 19) if labels[i : i + 20].tolist() == opening]
    assert split in starts
    assert len(labels) == 1797


def test_every_class_is_in_the_test_part():
    counts = read("digits", train=False).labels.bincount(minlength=10)
    assert counts.sum() == 382
    assert counts.min() >= 30


def test_values_are_scaled_to_one():
    images = load("digits").images
    assert (images.min(), images.max()) == (0.0, 1.0)
    assert torch.equal(images * 16, (images * 16).round())  # sixteenths are exact in float32


def test_a_damaged_package_asks_for_reinstallation(monkeypatch, tmp_path):
    whole = (resources.files("thruway.data") / "digits.npz").read_bytes()
    monkeypatch.setattr(digits_module.resources, "files", lambda _package: tmp_path)
    for content in (b"", whole[:1000], whole.replace(b"\xff", b"\x00"), b"PK" + bytes(100)):
        (tmp_path / "digits.npz").write_bytes(content)
        with pytest.raises(DatasetError, match="Reinstall thruway"):
            read("digits")
    (tmp_path / "digits.npz").unlink()
    with pytest.raises(DatasetError, match="Reinstall thruway"):
        read("digits")


def test_the_entry_agrees_with_the_file():
    entry = DATASETS["digits"]
    assert (entry.train.counts, entry.test.counts) == ((1415,), (382,))
