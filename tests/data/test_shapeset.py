"""Shapeset: class frequencies, positions, sizes, overlaps and grey levels of the objects."""

import math

import pytest
import torch

from thruway.data import SHAPE_CLASSES, Shapeset, shape_classes
from thruway.data.shapeset_layout import LayoutSettings, layout
from thruway.data.shapeset_random import image_keys

MANY = 20_000


@pytest.fixture(scope="module")
def drawn():
    return Shapeset().images(0, MANY)


def levels_of(images):
    """Convert images to integer grey levels 0 to 255, (n, size, size)."""
    levels = (images[:, 0].double() + 1) * 127.5
    assert (levels - levels.round()).abs().max() < 1e-4  # rounding of float32, times 127.5
    return levels.round().long()


def masks_of(shapes, count):
    """Return the pixels of each object, including hidden ones, bool, (max_objects, n, size, size), and the labels."""
    settings = LayoutSettings(shapes.size, shapes.classes, shapes.scale, shapes.overlap, shapes.samples)
    result = layout(settings, image_keys(shapes.seed, torch.arange(count)))
    columns = torch.arange(shapes.size)
    first, after = result.spans[..., None].long()
    return (columns >= first) & (columns < after), result.labels


def five_errors(share, count):
    """Five standard errors of a fraction estimated from `count` samples."""
    return 5 * math.sqrt(share * (1 - share) / count)


# --- class frequencies


def test_class_frequencies_are_as_published(drawn):
    """Glorot & Bengio 2010 draw the number of objects, then the kind of each, with equal probabilities."""
    expected = [1 / 6] * 3 + [1 / 9] * 3 + [1 / 18] * 3
    assert Shapeset().frequencies == pytest.approx(expected, rel=1e-12)
    for label, share in enumerate(drawn[1].bincount(minlength=9).double() / MANY):
        assert abs(share - expected[label]) < five_errors(expected[label], MANY), SHAPE_CLASSES[label]


def test_a_subset_of_classes_keeps_their_proportions():
    shapes = Shapeset(classes=("EE", "T", "TPE"), size=16, scale=(0.2, 0.4))
    assert shapes.names == ("2 ellipses", "triangle", "triangle + parallelogram + ellipse")
    # Two ellipses out of three kinds: 1/9; a triangle: 1/3; one of each in any of six orders: 6/27.
    expected = [1 / 6, 1 / 2, 1 / 3]
    assert shapes.frequencies == pytest.approx(expected, rel=1e-12)
    for share, wanted in zip(shapes.images(0, 5000)[1].bincount() / 5000, expected, strict=True):
        assert abs(share - wanted) < five_errors(wanted, 5000)


def test_with_two_kinds_the_numbers_of_objects_are_equally_likely():
    shapes = Shapeset(classes=shape_classes("PE"))
    assert shapes.classes == ("P", "E", "PE", "PP", "EE")
    assert shapes.frequencies == pytest.approx([1 / 4, 1 / 4, 1 / 4, 1 / 8, 1 / 8], rel=1e-12)


# --- objects and overlaps


def test_the_margin_is_exactly_one_pixel(drawn):
    images = drawn[0][:, 0]
    is_object = images != images[:, :1, :1]
    ring = torch.ones(32, 32, dtype=torch.bool)
    ring[1:-1, 1:-1] = False
    assert not is_object[:, ring].any()
    for side in (is_object[:, 1], is_object[:, -2], is_object[:, :, 1], is_object[:, :, -2]):
        assert side.any()


def test_objects_are_uniform_between_the_margins():
    """The centres of small objects of one size are uniform over the positions within the margins."""
    masks, _ = masks_of(Shapeset(classes=("E",), scale=(0.2, 0.2)), 4000)
    weights = masks[0].double()
    for axis in (1, 2):
        along = weights.sum(3 - axis)
        middle = (along * (torch.arange(32) + 0.5)).sum(1) / along.sum(1)
        share = (middle - 4.2) / (32 - 2 * 4.2)  # 1 of margin and 3.2 of radius at each end
        # The mean of n uniform numbers errs by 1/sqrt(12 n), their variance by 1/sqrt(180 n).
        assert abs(share.mean() - 1 / 2) < 5 / math.sqrt(12 * 4000)
        # Whole pixels blur a centre by a tenth of a pixel, a variance of 0.01 / 24**2, which the bound ignores.
        assert abs(share.var() - 1 / 12) < 5 / math.sqrt(180 * 4000)


def test_areas_follow_from_the_scales():
    """A regular polygon of radius 1/2 has the area n sin(2 pi / n) / 8; stretching multiplies it by both scales."""
    for letter, corners in (("T", 3), ("P", 4), ("E", 20)):
        masks, _ = masks_of(Shapeset(classes=(letter,)), 5000)
        areas = masks[0].double().sum((1, 2))
        regular = corners * math.sin(2 * math.pi / corners) / 8
        expected = regular * (32 * 0.5) ** 2  # two independent scales of mean 0.5
        assert abs(areas.mean() - expected) < 5 * areas.std() / math.sqrt(5000)
        # Both scales at their limits; a few pixels on the outline may fall on either side.
        assert areas.max() < regular * (32 * 0.8) ** 2 + 20
        assert areas.min() > regular * (32 * 0.2) ** 2 - 6


@pytest.mark.parametrize("overlap", [0.5, 0.2, 0.0])
def test_no_object_hides_more_than_the_limit(overlap):
    masks, _ = masks_of(Shapeset(overlap=overlap, seed=1), 5000)
    is_pair = masks[1].any((1, 2))
    area = masks[0].sum((1, 2))
    hidden = ((masks[0] & masks[1]).sum((1, 2)) / area)[is_pair]
    assert len(hidden) > 2000
    assert hidden.max() <= overlap
    # The limit is reached: if overlaps were smaller anyway, no image would come this close.
    assert hidden.max() > overlap - 0.01


def test_a_higher_limit_hides_more():
    masks, _ = masks_of(Shapeset(overlap=0.99, seed=1), 5000)
    hidden = (masks[0] & masks[1]).sum((1, 2)) / masks[0].sum((1, 2))
    assert (hidden > 0.5).double().mean() > 0.02


def test_the_limit_holds_for_the_sum_of_all_objects_above():
    shapes = Shapeset(size=24, classes=shape_classes("TPE", [2, 3, 4]), overlap=0.4)
    masks, labels = masks_of(shapes, 3000)
    above = torch.zeros_like(masks[0])
    for mask in masks.flip(0):
        area = mask.sum((1, 2))
        assert ((mask & above).sum((1, 2)) <= 0.4 * area).all()
        above |= mask
    counted = masks.any(3).any(2).sum(0)
    assert counted.tolist() == [len(shapes.classes[label]) for label in labels]


def test_the_label_is_that_of_the_placed_objects():
    """Pairs rarely fit here, so that most images contain one object and have its label."""
    shapes = Shapeset(size=16, scale=(0.55, 0.6), overlap=0.0, seed=5)
    images, labels = shapes.images(0, 2000)
    masks, again = masks_of(shapes, 2000)
    assert torch.equal(labels, again)
    counted = masks.any(3).any(2).sum(0)
    assert counted.tolist() == [len(shapes.classes[label]) for label in labels]
    assert (counted == 1).double().mean() > 0.7  # half are single objects anyway
    for levels, label in zip(levels_of(images), labels.tolist(), strict=True):
        assert len(levels.unique()) - 1 <= len(shapes.classes[label])


def test_objects_above_an_omitted_object_are_omitted():
    """Otherwise the remaining kinds would depend on what fits: narrow triangles more often than ellipses."""
    masks, _ = masks_of(Shapeset(size=16, classes=shape_classes("TPE", [1, 2, 3]), scale=(0.2, 0.7), overlap=0.0), 3000)
    is_there = masks.any(3).any(2)
    assert (is_there[1:] <= is_there[:-1]).all()
    assert is_there[2].any()


def test_the_smallest_objects_are_visible():
    """A triangle of two pixels can fall between the pixel centres; then it gets another position."""
    shapes = Shapeset(classes=("T", "TT"), scale=(2 / 32, 2 / 32))
    images, labels = shapes.images(0, 20_000)
    assert (images != images[:, :, :1, :1]).any(3).any(2).all()
    assert abs(labels.double().mean() - 1 / 2) < five_errors(1 / 2, 20_000)  # so none was omitted for this reason


def test_kinds_can_be_distinguished_by_their_area():
    """Ratio of the area to that of the ellipse through the corners, from the variance: triangle 0.41, square 0.64."""
    fill = {"T": 3 * math.sqrt(3) / (4 * math.pi), "P": 2 / math.pi, "E": 1.0}
    spread = {"T": 1 / 8, "P": 1 / 6, "E": 1 / 4}  # variance along an axis, for corners on the unit circle
    for letter in "TPE":
        masks, labels = masks_of(Shapeset(size=128, scale=(0.5, 0.8)), 300)
        mask = masks[0, labels == SHAPE_CLASSES.index(letter)].double()
        area = mask.sum((1, 2))
        at = torch.arange(128.0, dtype=torch.float64)
        x, y = (mask.sum(1) * at).sum(1) / area, (mask.sum(2) * at).sum(1) / area
        xx = (mask.sum(1) * at**2).sum(1) / area - x**2
        yy = (mask.sum(2) * at**2).sum(1) / area - y**2
        xy = torch.einsum("nij,i,j->n", mask, at, at) / area - x * y
        around = math.pi * (xx * yy - xy**2).sqrt() / spread[letter]
        # A shape has about 3,000 pixels here, which gives errors of one or two percent. Kinds differ by 36 %.
        assert (area / around / fill[letter] - 1).abs().max() < 0.05


# --- grey levels


def test_grey_levels_cover_exactly_their_ranges(drawn):
    levels = levels_of(drawn[0][:4000])
    ground = levels[:, 0, 0]
    is_light = ground >= 140
    assert abs(is_light.double().mean() - 0.5) < five_errors(0.5, 4000)
    assert set(ground.tolist()) == {*range(115), *range(140, 256)}  # 0 to 0.45 and 0.55 to 1.0 of 255
    others = torch.where(levels == ground[:, None, None], -1, levels)
    on_light, on_dark = others[is_light], others[~is_light]
    assert set(on_light.unique().tolist()) == {-1, *range(115)}
    assert set(on_dark.unique().tolist()) == {-1, *range(140, 256)}
    # 115 levels, each about 17 times: chi-square with mean 114 and standard deviation sqrt(2 * 114).
    counts = ground[~is_light].bincount(minlength=115).double()
    expected = counts.sum() / 115
    assert abs(((counts - expected) ** 2 / expected).sum() - 114) < 5 * math.sqrt(2 * 114)


def test_every_object_has_its_own_grey_level(drawn):
    levels = levels_of(drawn[0][:2000])
    seen = torch.tensor([len(picture.unique()) - 1 for picture in levels])
    is_pair = drawn[1][:2000] >= 3
    assert (seen[~is_pair] == 1).all()
    # Two of about 115 grey levels agree by chance in one image of 115.
    agree = (seen[is_pair] == 1).double().mean()
    assert abs(agree - 1 / 115.5) < five_errors(1 / 115.5, int(is_pair.sum()))


@pytest.mark.parametrize(("swap", "is_light"), [(0.0, False), (1.0, True)])
def test_swap_exchanges_dark_and_light(swap, is_light):
    images, _ = Shapeset(swap=swap, dark=(0.2, 0.3), light=(0.8, 0.8), size=16).images(0, 500)
    levels = levels_of(images)
    ground = levels[:, 0, 0]
    assert ((ground == 204) == is_light).all()
    assert set(levels.unique().tolist()) == {*range(51, 77), 204}


def test_averaging_only_softens_edges():
    hard, soft = Shapeset(seed=2), Shapeset(seed=2, samples=4)
    # Single objects only: with other sample points, an overlap may fall on the other side of the limit.
    singles = (hard.images(0, 500)[1] < 3).nonzero()[:, 0]
    (sharp, labels), (smooth, same) = hard.images(singles), soft.images(singles)
    assert torch.equal(labels, same)
    ground = sharp[:, :, :1, :1]
    front = torch.where(ground > 0, sharp.amin((2, 3), True), sharp.amax((2, 3), True))
    share = (smooth - ground) / (front - ground)
    assert share.min() >= 0
    assert share.max() <= 1 + 1e-6  # float32
    is_soft = (smooth != ground) & (smooth != front)
    assert 0.02 < is_soft.double().mean() < 0.2
    # 16 points measure an area better than one, but the mean over all images is the same.
    assert abs(share.double().mean() - (sharp != ground).double().mean()) < 0.002
