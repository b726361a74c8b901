"""Laws of Shapeset: what is in a picture and how often, and what hides what."""

import math

import pytest
import torch

from thruway.data import SHAPE_CLASSES, Shapeset, shape_classes
from thruway.data.shapeset_layout import Rules, layout
from thruway.data.shapeset_random import image_keys

MANY = 20_000


@pytest.fixture(scope="module")
def drawn():
    return Shapeset().images(0, MANY)


def levels_of(images):
    """The pixels as the whole levels 0 to 255 that they stand for, (n, size, size)."""
    levels = (images[:, 0].double() + 1) * 127.5
    assert (levels - levels.round()).abs().max() < 1e-4  # float32's rounding, 127.5 times
    return levels.round().long()


def masks_of(shapes, count):
    """Which pixels each object covers, also where it is covered: bool, (most, n, size, size); and the labels."""
    rules = Rules(shapes.size, shapes.classes, shapes.scale, shapes.overlap, shapes.samples)
    made = layout(rules, image_keys(shapes.seed, torch.arange(count)))
    columns = torch.arange(shapes.size)
    first, after = made.spans[..., None].long()
    return (columns >= first) & (columns < after), made.labels


def five_errors(share, count):
    """Five standard errors of a share that is counted `count` times."""
    return 5 * math.sqrt(share * (1 - share) / count)


# --- how often


def test_the_classes_come_as_often_as_published(drawn):
    """Glorot & Bengio 2010 draw the number of objects, then each one's kind, without favour."""
    expected = [1 / 6] * 3 + [1 / 9] * 3 + [1 / 18] * 3
    assert Shapeset().frequencies == pytest.approx(expected, rel=1e-12)
    for label, share in enumerate(drawn[1].bincount(minlength=9).double() / MANY):
        assert abs(share - expected[label]) < five_errors(expected[label], MANY), SHAPE_CLASSES[label]


def test_a_choice_of_classes_keeps_their_proportions():
    shapes = Shapeset(classes=("EE", "T", "TPE"), size=16, scale=(0.2, 0.4))
    assert shapes.names == ("2 ellipses", "triangle", "triangle + parallelogram + ellipse")
    # Two ellipses out of three kinds: 1/9; a triangle: 1/3; one of each in any of six orders: 6/27.
    expected = [1 / 6, 1 / 2, 1 / 3]
    assert shapes.frequencies == pytest.approx(expected, rel=1e-12)
    for share, wanted in zip(shapes.images(0, 5000)[1].bincount() / 5000, expected, strict=True):
        assert abs(share - wanted) < five_errors(wanted, 5000)


def test_two_kinds_leave_the_numbers_of_objects_equally_likely():
    shapes = Shapeset(classes=shape_classes("PE"))
    assert shapes.classes == ("P", "E", "PE", "PP", "EE")
    assert shapes.frequencies == pytest.approx([1 / 4, 1 / 4, 1 / 4, 1 / 8, 1 / 8], rel=1e-12)


# --- what is seen


def test_a_pixel_of_margin_is_left_and_no_more(drawn):
    images = drawn[0][:, 0]
    is_object = images != images[:, :1, :1]
    ring = torch.ones(32, 32, dtype=torch.bool)
    ring[1:-1, 1:-1] = False
    assert not is_object[:, ring].any()
    for side in (is_object[:, 1], is_object[:, -2], is_object[:, :, 1], is_object[:, :, -2]):
        assert side.any()


def test_objects_are_uniform_between_the_margins():
    """Small objects of one size: their middles are uniform over the room that the margins leave."""
    masks, _ = masks_of(Shapeset(classes=("E",), scale=(0.2, 0.2)), 4000)
    weights = masks[0].double()
    for axis in (1, 2):
        along = weights.sum(3 - axis)
        middle = (along * (torch.arange(32) + 0.5)).sum(1) / along.sum(1)
        share = (middle - 4.2) / (32 - 2 * 4.2)  # 1 of margin and 3.2 of radius at each end
        # The mean of n uniform numbers errs by 1/sqrt(12 n), their variance by 1/sqrt(180 n).
        assert abs(share.mean() - 1 / 2) < 5 / math.sqrt(12 * 4000)
        # Counting whole pixels blurs a middle by a tenth of a pixel: 0.01 / 24**2 of variance, left out of the bound.
        assert abs(share.var() - 1 / 12) < 5 / math.sqrt(180 * 4000)


def test_areas_follow_from_the_scales():
    """A regular polygon of radius 1/2 has the area n sin(2 pi / n) / 8; stretching multiplies it by both scales."""
    for letter, corners in (("T", 3), ("P", 4), ("E", 20)):
        masks, _ = masks_of(Shapeset(classes=(letter,)), 5000)
        areas = masks[0].double().sum((1, 2))
        regular = corners * math.sin(2 * math.pi / corners) / 8
        expected = regular * (32 * 0.5) ** 2  # two independent scales of mean 0.5
        assert abs(areas.mean() - expected) < 5 * areas.std() / math.sqrt(5000)
        # Both scales at their ends; a few pixels on the outline may fall on either side.
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
    # The limit is used up: were it lower by itself, no picture would come this near.
    assert hidden.max() > overlap - 0.01


def test_without_a_limit_more_would_be_hidden():
    masks, _ = masks_of(Shapeset(overlap=0.99, seed=1), 5000)
    hidden = (masks[0] & masks[1]).sum((1, 2)) / masks[0].sum((1, 2))
    assert (hidden > 0.5).double().mean() > 0.02


def test_of_every_object_enough_is_seen_however_many_lie_on_it():
    shapes = Shapeset(size=24, classes=shape_classes("TPE", [2, 3, 4]), overlap=0.4)
    masks, labels = masks_of(shapes, 3000)
    above = torch.zeros_like(masks[0])
    for mask in masks.flip(0):
        area = mask.sum((1, 2))
        assert ((mask & above).sum((1, 2)) <= 0.4 * area).all()
        above |= mask
    counted = masks.any(3).any(2).sum(0)
    assert counted.tolist() == [len(shapes.classes[label]) for label in labels]


def test_the_label_is_that_of_what_is_seen():
    """Pairs hardly fit here: most pictures are left with one object, and say so."""
    shapes = Shapeset(size=16, scale=(0.55, 0.6), overlap=0.0, seed=5)
    images, labels = shapes.images(0, 2000)
    masks, again = masks_of(shapes, 2000)
    assert torch.equal(labels, again)
    counted = masks.any(3).any(2).sum(0)
    assert counted.tolist() == [len(shapes.classes[label]) for label in labels]
    assert (counted == 1).double().mean() > 0.7  # half would be single anyway
    for levels, label in zip(levels_of(images), labels.tolist(), strict=True):
        assert len(levels.unique()) - 1 <= len(shapes.classes[label])


def test_with_an_object_those_above_it_are_left_out():
    """Otherwise which kinds are left would depend on what fits: slim triangles more often than ellipses."""
    masks, _ = masks_of(Shapeset(size=16, classes=shape_classes("TPE", [1, 2, 3]), scale=(0.2, 0.7), overlap=0.0), 3000)
    is_there = masks.any(3).any(2)
    assert (is_there[1:] <= is_there[:-1]).all()
    assert is_there[2].any()


def test_the_smallest_objects_are_seen():
    """Two pixels across, a triangle may slip between the middles of the pixels; then it goes elsewhere."""
    shapes = Shapeset(classes=("T", "TT"), scale=(2 / 32, 2 / 32))
    images, labels = shapes.images(0, 20_000)
    assert (images != images[:, :, :1, :1]).any(3).any(2).all()
    assert abs(labels.double().mean() - 1 / 2) < five_errors(1 / 2, 20_000)  # so none was left out for it


def test_kinds_can_be_told_by_their_area():
    """Of the ellipse through its corners, whose area its spread gives, a triangle fills 0.41, a parallelogram 0.64."""
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
        # At 128 pixels a side a shape has some 3,000: counting them errs by a percent or two. Kinds differ by 36 %.
        assert (area / around / fill[letter] - 1).abs().max() < 0.05


# --- greys


def test_greys_keep_to_their_ranges_and_fill_them(drawn):
    levels = levels_of(drawn[0][:4000])
    ground = levels[:, 0, 0]
    is_light = ground >= 140
    assert abs(is_light.double().mean() - 0.5) < five_errors(0.5, 4000)
    assert set(ground.tolist()) == {*range(115), *range(140, 256)}  # 0 to 0.45 and 0.55 to 1.0 of 255
    others = torch.where(levels == ground[:, None, None], -1, levels)
    on_light, on_dark = others[is_light], others[~is_light]
    assert set(on_light.unique().tolist()) == {-1, *range(115)}
    assert set(on_dark.unique().tolist()) == {-1, *range(140, 256)}
    # 115 levels, each some 17 times: their frequencies have a chi-square of mean 114 and deviation sqrt(2 * 114).
    counts = ground[~is_light].bincount(minlength=115).double()
    expected = counts.sum() / 115
    assert abs(((counts - expected) ** 2 / expected).sum() - 114) < 5 * math.sqrt(2 * 114)


def test_every_object_has_its_own_grey(drawn):
    levels = levels_of(drawn[0][:2000])
    seen = torch.tensor([len(picture.unique()) - 1 for picture in levels])
    is_pair = drawn[1][:2000] >= 3
    assert (seen[~is_pair] == 1).all()
    # Two greys out of some 115 agree by chance in one picture of 115.
    agree = (seen[is_pair] == 1).double().mean()
    assert abs(agree - 1 / 115.5) < five_errors(1 / 115.5, int(is_pair.sum()))


@pytest.mark.parametrize(("swap", "is_light"), [(0.0, False), (1.0, True)])
def test_swap_decides_which_is_dark(swap, is_light):
    images, _ = Shapeset(swap=swap, dark=(0.2, 0.3), light=(0.8, 0.8), size=16).images(0, 500)
    levels = levels_of(images)
    ground = levels[:, 0, 0]
    assert ((ground == 204) == is_light).all()
    assert set(levels.unique().tolist()) == {*range(51, 77), 204}


def test_averaged_points_soften_edges_only():
    hard, soft = Shapeset(seed=2), Shapeset(seed=2, samples=4)
    # Counted in other points, an overlap may fall on the other side of the limit: single objects have none.
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
    # 16 points tell an area better than one: what both say on the whole is the same.
    assert abs(share.double().mean() - (sharp != ground).double().mean()) < 0.002
