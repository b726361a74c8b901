"""The operations of TensorSet, and the one-line representations of data sets."""

import pytest
import torch

from thruway.data import Shapeset, TensorSet, batches, load, read, split_text
from thruway.errors import ConfigError, DatasetError


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
    assert train.images.min() == 0  # the original is unchanged


def test_the_test_part_is_standardised_with_the_training_parts_moments():
    train, test = load("digits"), load("digits", train=False)
    mean, std = train.moments()
    got = test.standardised(mean, std).images.double()
    expected = (test.images.double() - mean) / std
    assert torch.allclose(got, expected, rtol=0, atol=1e-6)  # two roundings of numbers up to 2
    assert abs(got.mean()) > 1e-4  # so the moments are not those of the test part


def test_one_of_mean_and_std_can_be_passed():
    digits = load("digits")
    mean, std = digits.moments()
    assert torch.equal(digits.standardised(mean=mean).images, digits.standardised(mean, std).images)
    assert torch.equal(digits.standardised(std=2.0).images, (digits.images - mean) / 2)


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan"), float("inf")])
def test_an_invalid_std_is_refused(std):
    with pytest.raises(ConfigError, match="both must be finite and std above 0"):
        load("digits").standardised(0.5, std)


def test_equal_pixels_cannot_be_standardised():
    blank = TensorSet("blank", torch.ones(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64), ("a",), "here")
    with pytest.raises(ConfigError, match="cannot standardise blank"):
        blank.standardised()


def test_flat_concatenates_the_rows_of_each_image():
    digits = load("digits", limit=5)
    flat = digits.flat()
    assert torch.equal(flat.images[3], torch.cat([digits.images[3, 0, row] for row in range(8)]))
    assert torch.equal(flat.flat().images, flat.images)


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


def test_the_repr_of_a_data_set_is_one_short_line():
    digits = load("digits")
    flat = digits.standardised().flat()
    source = "embedded in thruway (digits.npz)"
    assert repr(digits) == f"TensorSet('digits', images=(1415, 1, 8, 8), 10 classes, source='{source}')"
    assert repr(flat) == f"TensorSet('digits', images=(1415, 64), 10 classes, source='{source}')"
    assert repr(digits.to("meta")).endswith(", device='meta')")
    assert repr(read("digits")) == f"Raw(images=(1415, 1, 8, 8), 10 classes, where='{source}')"
    text = split_text("abc\n" * 100)
    assert repr(text).startswith("TextSet(train=360, valid=20, test=20, 4 different characters, sha256='")
    assert "\n" not in repr(text)


def test_the_repr_of_a_shapeset_shows_the_settings_that_are_not_defaults():
    assert repr(Shapeset()) == "Shapeset(size=32, seed=0)"
    pairs = Shapeset(size=64, classes=("TT", "EE"), overlap=0.2)
    assert repr(pairs) == "Shapeset(size=64, seed=0, classes=('TT', 'EE'), overlap=0.2)"
    assert eval(repr(pairs)) == pairs
    assert repr(pairs.part("test", 2)) == (
        "TensorSet('shapeset', images=(2, 1, 64, 64), 2 classes, "
        f'source="drawn by {pairs}, starting at image 8589934592")'
    )
