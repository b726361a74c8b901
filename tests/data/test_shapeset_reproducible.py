"""Reproducibility of Shapeset images, quality of the random numbers, and errors."""

import hashlib
import itertools
import math

import pytest
import torch

from thruway.data import SHAPESET_STARTS, Shapeset, load, shape_classes
from thruway.data.shapeset_random import image_keys, random_integers, random_uniform
from thruway.errors import ConfigError

MANY = 10_000


@pytest.fixture(scope="module")
def drawn():
    return Shapeset().images(0, MANY)


# --- reproducibility


def test_an_image_does_not_depend_on_its_batch(drawn):
    shapes = Shapeset()
    images, labels = drawn
    edge = 4096  # number of images drawn at once
    for start, count in ((0, 1), (7, 10), (edge - 1, 2), (edge - 50, 100), (MANY - 1, 1)):
        some, of_some = shapes.images(start, count)
        assert torch.equal(some, images[start : start + count])
        assert torch.equal(of_some, labels[start : start + count])
    order = torch.randperm(MANY, generator=torch.Generator().manual_seed(0))[:500]
    some, of_some = shapes.images(torch.cat([order, order[:3]]))
    assert torch.equal(some[:500], images[order])
    assert torch.equal(of_some[500:], labels[order[:3]])
    assert shapes.images(5, 0)[0].shape == (0, 1, 32, 32)


def test_the_images_are_the_same_on_every_machine():
    """The digest of the first and of some late images. A change means that the data set has changed."""
    shapes = Shapeset()
    digest = hashlib.sha256()
    for start in (0, 10**15):
        images, labels = shapes.images(start, 2000)
        digest.update(
            ((images + 1) * 127.5).round().to(torch.uint8).numpy().tobytes() + labels.to(torch.uint8).numpy().tobytes()
        )
    assert digest.hexdigest() == "830be9addacfd4bdb74b87975f67dd9525b969680b9633074a8e868e371549d5"


def test_the_table_of_sines_is_far_from_rounding_boundaries():
    """Math libraries differ by about 1e-16; rounded to 2**-32, their tables are the same."""
    turns = [turn / 255 for turn in range(255)]
    turns += [(k + 0.5) / corners + 0.25 for corners in (3, 4, 20) for k in range(corners)]
    angles = [2 * math.pi * turn for turn in turns]
    steps = [of(angle) * 2**32 for angle in angles for of in (math.cos, math.sin)]
    nearest = min(abs(abs(step % 1) - 0.5) for step in steps)
    assert nearest / 2**32 > 100 * 2.0**-53


def test_seeds_and_images_differ(drawn):
    images, _ = drawn
    assert len(images[:5000].flatten(1).unique(dim=0)) == 5000
    other, _ = Shapeset(seed=1).images(0, 100)
    assert not any(torch.equal(a, b) for a, b in zip(images, other, strict=False))


def test_global_state_is_neither_used_nor_changed(drawn):
    state = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        images, labels = Shapeset().images(0, 50)
    finally:
        torch.set_default_dtype(torch.float32)
    assert images.dtype == torch.float32
    assert torch.equal(images, drawn[0][:50])
    assert torch.equal(labels, drawn[1][:50])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("samples", [1, 2])
def test_all_tensors_are_created_on_the_drawing_device(samples):
    """A tensor created without a device would be on the default device, here meta, which holds no values."""
    shapes = Shapeset(samples=samples)
    images, labels = shapes.images(0, 300)
    part = shapes.part("train", 300)
    with torch.device("meta"):
        there, same = shapes.images(0, 300)
        again = shapes.part("train", 300)
    assert torch.equal(there, images)
    assert torch.equal(same, labels)
    assert torch.equal(again.images, part.images)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("samples", [1, 3])
def test_a_gpu_draws_the_same_bits(samples):
    shapes = Shapeset(samples=samples)
    (here, labels), (there, others) = shapes.images(0, 10_000), shapes.images(0, 10_000, device="cuda")
    assert there.device.type == others.device.type == "cuda"
    assert torch.equal(here, there.cpu())
    assert torch.equal(labels, others.cpu())


# --- the random numbers


def test_the_numbers_are_those_of_splitmix64():
    """The first outputs of the published generator from state 1234567; ours are their upper 32 bits."""
    published = (6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431)
    keys = torch.tensor([1234567])
    assert [round(u * 2**32) for u in random_uniform(keys, 0, 4)[:, 0].tolist()] == [
        number >> 32 for number in published
    ]


def test_neighbouring_images_and_slots_are_independent():
    n = 200_000
    drawn = random_uniform(image_keys(0, torch.arange(n)), 0, 3)
    for one, other in ((drawn[0], drawn[1]), (drawn[0], drawn[2]), (drawn[0, 1:], drawn[0, :-1])):
        # 32 x 32 cells: a chi-square with 1,023 degrees of freedom.
        cells = ((one * 32).long() * 32 + (other * 32).long()).bincount(minlength=1024).double()
        expected = len(one) / 1024
        assert abs(((cells - expected) ** 2 / expected).sum() - 1023) < 5 * math.sqrt(2 * 1023)
    assert abs(drawn.mean() - 0.5) < 5 / math.sqrt(12 * 3 * n)


def test_random_integers_include_both_ends():
    keys = image_keys(3, torch.arange(1000))
    assert random_integers(keys, 0, 7).unique().tolist() == list(range(7))
    assert random_integers(keys, 0, torch.full((1000,), 1)).unique().tolist() == [0]
    assert torch.equal(random_integers(keys, 4, 10), (random_uniform(keys, 4, 1)[0] * 10).floor().long())


# --- as a data set


def test_the_named_data_set_is_the_first_images():
    test = load("shapeset", train=False)
    images, labels = Shapeset().images(SHAPESET_STARTS["test"], 10_000)
    assert len(test) == 10_000
    assert torch.equal(test.standardised(0.5, 0.5).images, images)
    assert torch.equal(test.labels, labels)
    assert test.classes == Shapeset().names
    assert "drawn by Shapeset(size=32, seed=0" in test.source
    again = Shapeset().part("test", 300)
    assert torch.equal(again.images, test.images[:300])
    assert torch.equal(again.labels, test.labels[:300])


def test_no_image_is_in_two_parts():
    starts = sorted(SHAPESET_STARTS.values())
    assert min(b - a for a, b in itertools.pairwise(starts)) >= 2**32
    parts = [Shapeset(size=16, seed=9).part(name, 200).images for name in SHAPESET_STARTS]
    assert len(torch.cat(parts).flatten(1).unique(dim=0)) == 600


# --- errors

REFUSED = {
    "size": ({"size": 3}, r"size must be an integer from 4 to 1024, got 3"),
    "size of another type": ({"size": 32.0}, r"got 32\.0"),
    "samples": ({"samples": 0}, r"samples must be an integer from 1 to 16, got 0"),
    "scale too large": ({"scale": (0.2, 0.95)}, r"got 0\.2 and 0\.95\. Images of 32 x 32 allow 0\.0625 .* to 0\.9375"),
    "scale too small": ({"scale": (0.01, 0.5)}, r"got 0\.01 and 0\.5"),
    "scale reversed": ({"scale": (0.5, 0.2)}, r"got 0\.5 and 0\.2"),
    "no scale": ({"scale": (math.nan, 0.5)}, r"got nan and 0\.5"),
    "overlap": ({"overlap": 1.0}, r"overlap, .* from 0 to below 1, got 1\.0"),
    "swap": ({"swap": 1.5}, r"swap, .* from 0 to 1, got 1\.5"),
    "dark and light meet": ({"dark": (0.0, 0.6)}, r"got dark=\(0\.0, 0\.6\), light=\(0\.55, 1\.0\)"),
    "dark and light in one level": ({"dark": (0.0, 0.551), "light": (0.552, 1.0)}, r"at least 1/255 below"),
    "no classes": ({"classes": ()}, "classes is empty"),
    "unknown letter": ({"classes": ("T", "X")}, r"1 to 6 letters of TPE, one per object, got 'X'"),
    "too many objects": ({"classes": ("T" * 7,)}, "1 to 6 letters"),
    "the same twice": ({"classes": ("TP", "PT")}, "same objects twice, got TP, PT"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_settings_are_refused(name):
    settings, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message):
        Shapeset(**settings)


INDICES = {
    "negative": ((-1, 5), r"start must be an integer from 0 .*, got -1"),
    "no count": ((7,), r"images\(7, 100\)"),
    "negative count": ((0, -5), r"count must be an integer .*, got -5"),
    "tensor and count": ((torch.arange(3), 3), r"got count=3 as well"),
    "floats": ((torch.zeros(3),), r"indices must be .*int64.*got torch\.float32 of shape \(3,\)"),
    "negative index": ((torch.tensor([4, -2]),), r"smallest -2"),
    "two dimensions": ((torch.zeros(2, 2, dtype=torch.int64),), r"shape \(2, 2\)"),
}


@pytest.mark.parametrize("name", INDICES)
def test_invalid_indices_are_refused(name):
    arguments, message = INDICES[name]
    with pytest.raises(ConfigError, match=message):
        Shapeset().images(*arguments)


def test_unknown_parts_and_kinds_are_refused():
    with pytest.raises(ConfigError, match=r"unknown part of Shapeset 'tset'; did you mean 'test'"):
        Shapeset().part("tset", 5)
    with pytest.raises(ConfigError, match=r"different letters of TPE, got 'TT'"):
        shape_classes("TT")
    with pytest.raises(ConfigError, match=r"from 1 to 6, got \[0\]"):
        shape_classes("T", [0])


def test_objects_that_cannot_be_placed_are_refused():
    with pytest.raises(ConfigError, match=r"scale 0\.9 to 0\.9 cannot be placed .* at most 0 of each other .* 32 x 32"):
        Shapeset(classes=("EE",), scale=(0.9, 0.9), overlap=0.0).images(0, 3)
