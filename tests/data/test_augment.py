"""Contrast normalisation and augmentation, compared with loops, and their use of random numbers."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from thruway.data import contrast_normalised, load, shifted_and_mirrored
from thruway.errors import ConfigError, ShapeError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_contrast_is_normalised_per_image():
    images = load("digits", limit=20).images * torch.linspace(0.1, 3, 20).view(-1, 1, 1, 1) + 0.7
    expected = []
    for image in images.double():
        mean = image.sum() / image.numel()
        expected.append((image - mean) / ((image - mean).square().sum() / image.numel()).sqrt())
    # Rounded to float32 once: 6e-8 of numbers up to 4.
    torch.testing.assert_close(contrast_normalised(images).double(), torch.stack(expected), rtol=2e-7, atol=2e-7)


def test_brightness_and_contrast_do_not_matter():
    images = load("digits", limit=20).images.double()
    torch.testing.assert_close(contrast_normalised(3 * images + 2), contrast_normalised(images), rtol=0, atol=1e-13)


@pytest.mark.parametrize("colour", [0.0, 0.1, 1 / 3, 1e30])
def test_an_image_of_one_colour_is_zero(colour):
    grey = torch.full((2, 3, 7, 5), colour)
    assert torch.equal(contrast_normalised(grey), torch.zeros_like(grey))


def by_loops(image, reach, fill):
    """Return {(down, right, is mirrored): resulting image}, computed with loops."""
    height, width = image.shape[-2:]
    padded = F.pad(image[None], (reach,) * 4, mode="replicate" if fill == "edge" else "constant")[0]
    found = {}
    for down, right, mirrored in itertools.product(range(2 * reach + 1), range(2 * reach + 1), (False, True)):
        crop = padded[:, down : down + height, right : right + width]
        found[(down, right, mirrored)] = crop.flip(-1) if mirrored else crop
    return found


@pytest.mark.parametrize("fill", ["edge", "zeros"])
def test_shifted_images_are_shifted_images(fill):
    """Every one is one of the nine shifts of the original, or its mirror image; and all eighteen occur."""
    image = torch.arange(1, 1 + 2 * 8 * 6.0).view(2, 8, 6)
    allowed = by_loops(image, 1, fill)
    drawn = shifted_and_mirrored(image.expand(300, -1, -1, -1), generator(), fill=fill)
    met = [[key for key, crop in allowed.items() if torch.equal(crop, each)] for each in drawn]
    assert all(len(found) == 1 for found in met)
    assert {found[0] for found in met} == set(allowed)  # each is missed with probability (17/18)^300, 4e-8


def test_without_mirroring_and_reach_nothing_changes():
    images = load("digits", limit=50).images
    assert torch.equal(shifted_and_mirrored(images, generator(), reach=0, mirror=False), images)


def test_half_the_images_are_mirrored():
    image = torch.tensor([[[0.0, 1.0]]]).expand(10_000, 1, 1, 2)
    share = shifted_and_mirrored(image, generator(), reach=0)[:, 0, 0, 0].mean().item()
    assert abs(share - 0.5) < 0.025  # five standard deviations of 0.005


def test_random_numbers_depend_only_on_the_generator():
    images = load("digits", limit=50).images
    grey, coloured = (
        shifted_and_mirrored(images, generator(3)),
        shifted_and_mirrored(images.expand(-1, 3, -1, -1), generator(3)),
    )
    assert torch.equal(grey.expand(-1, 3, -1, -1), coloured)
    assert not torch.equal(grey, shifted_and_mirrored(images, generator(4)))
    before = torch.get_rng_state()
    shifted_and_mirrored(images, generator())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool], ids=str)
def test_contrast_of_integers_is_refused(dtype):
    with pytest.raises(ShapeError, match=rf"floating-point images, got {dtype}.*contrast_normalised\(images.float"):
        contrast_normalised(torch.ones(2, 1, 4, 4).to(dtype))


@pytest.mark.parametrize("reach", [0, 2])
@pytest.mark.parametrize("mirror", [True, False])
def test_contiguous_images_stay_contiguous(reach, mirror):
    images = torch.randn(5, 3, 8, 6, generator=generator(1))
    drawn = shifted_and_mirrored(images, generator(), reach, mirror=mirror)
    assert drawn.is_contiguous()
    last = shifted_and_mirrored(images.contiguous(memory_format=torch.channels_last), generator(), reach, mirror=mirror)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(drawn, last)


def test_a_missing_generator_is_refused():
    before = torch.get_rng_state()
    with pytest.raises(ConfigError, match=r"(?s)generator must be a torch\.Generator .*, got None.*manual_seed"):
        shifted_and_mirrored(torch.zeros(2, 1, 4, 4), None)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("reach", [1.5, "2", True])
def test_an_invalid_reach_is_refused(reach):
    with pytest.raises(ConfigError, match=f"reach must be an integer of at least 0, in pixels, or None, got {reach!r}"):
        shifted_and_mirrored(torch.zeros(2, 1, 4, 4), generator(), reach)


def test_invalid_inputs_are_refused():
    images = torch.zeros(2, 1, 4, 4)
    with pytest.raises(ShapeError, match=r"got \(4,\)"):
        contrast_normalised(torch.zeros(4))
    with pytest.raises(ShapeError, match=r"got \(1, 4, 4\)"):
        shifted_and_mirrored(images[0], generator())
    with pytest.raises(ConfigError, match="reach must be an integer of at least 0, in pixels, or None, got -1"):
        shifted_and_mirrored(images, generator(), reach=-1)
    with pytest.raises(ConfigError, match="fill"):
        shifted_and_mirrored(images, generator(), fill="mirror")


@pytest.mark.parametrize(
    "call",
    [contrast_normalised, lambda images: shifted_and_mirrored(images, generator())],
    ids=["contrast", "shifts"],
)
@pytest.mark.parametrize("kind", ["ndarray", "TensorSet"])
def test_other_objects_than_tensors_are_refused(call, kind):
    digits = load("digits", limit=2)
    with pytest.raises(ShapeError, match=rf"expects a tensor of images, got a {kind}\. .*\.images.*torch\.as_tensor"):
        call(digits if kind == "TensorSet" else digits.images.numpy())


def test_edge_fill_of_bool_images_is_refused():
    images = torch.eye(8, dtype=torch.bool).expand(2, 1, 8, 8)
    with pytest.raises(ShapeError, match=r'torch\.bool images.*images\.float\(\).*fill="zeros"'):
        shifted_and_mirrored(images, generator())
    black = shifted_and_mirrored(images, generator(), fill="zeros")
    assert torch.equal(black.float(), shifted_and_mirrored(images.float(), generator(), fill="zeros"))


def test_a_list_is_not_a_valid_fill():
    with pytest.raises(ConfigError, match=r"unknown fill \['edge'\]"):
        shifted_and_mirrored(torch.zeros(2, 1, 4, 4), generator(), fill=["edge"])
