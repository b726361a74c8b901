"""Training streams: images drawn once, or each image of a set once a round; held-out examples are not among them."""

import pytest
import torch
from glorot_errors_tiny import TINY

from thruway.data import Shapeset, load
from thruway.errors import ConfigError, DatasetError
from thruway.experiments.glorot2010.errors import Config, load_parts
from thruway.experiments.glorot2010.errors_stages import chunk, stages_of, stream
from thruway.experiments.glorot2010.streams import Finite, Online


def rows(inputs):
    return {tuple(row) for row in inputs.tolist()}


def test_each_round_has_every_example_in_a_new_order():
    source = Finite(torch.arange(7.0).view(7, 1), torch.arange(7))
    seen = source.draw(3, 0, 28)[1].view(4, 7)
    assert all(sorted(each.tolist()) == list(range(7)) for each in seen)
    assert len({tuple(each.tolist()) for each in seen}) == 4
    assert source.draw(4, 0, 28)[1].view(4, 7).tolist() != seen.tolist()


@pytest.mark.parametrize("source", [Finite(torch.rand(7, 2), torch.arange(7)), Online(12, "cpu")], ids=["set", "drawn"])
def test_a_stream_is_the_same_in_any_pieces(source):
    inputs, labels = source.draw(5, 0, 30)
    for start, count in ((0, 10), (10, 3), (13, 17)):
        part = source.draw(5, start, count)
        assert torch.equal(part[0], inputs[start : start + count])
        assert torch.equal(part[1], labels[start : start + count])


def test_drawn_images_are_shapesets():
    inputs, labels = Online(12, "cpu").draw(5, 40, 8)
    images, truth = Shapeset(12, 5).images(40, 8)
    assert torch.equal(inputs, images.flatten(1))
    assert torch.equal(labels, truth)


def test_shapeset_holds_out_what_no_seed_trains_on():
    parts = load_parts(Config(held_out=200, fixed_examples=150, size=12))
    drawn = [parts.source.draw(stream(name, seed), 0, 200)[0] for name in ("search", "final") for seed in (0, 1)]
    every = [parts.valid[0], parts.test[0], parts.fixed[0], *drawn]
    # Two images may look alike by chance; two streams may not.
    for number, one in enumerate(every):
        for other in every[:number]:
            assert len(rows(one) & rows(other)) < 3
    counts = parts.test[1].bincount()
    assert parts.majority_error == pytest.approx(1 - counts.max().item() / 200)
    assert (parts.inputs, parts.classes) == (144, 9)


def test_a_named_set_gives_a_fifth_to_validation_and_keeps_its_test_part():
    parts = load_parts(TINY)
    whole, test = load("digits"), load("digits", train=False)
    mean, std = whole.moments()
    assert len(parts.valid[1]) == len(whole) // 5
    train, valid = parts.source.inputs, parts.valid[0]
    expected = (whole.images.flatten(1) - mean) / std
    together = torch.cat([train, valid])
    # Every image lands in one of the two, none in both: the same rows in another order.
    assert torch.equal(together.sum(dim=1).sort().values, expected.sum(dim=1).sort().values)
    assert torch.equal(parts.test[0], (test.images.flatten(1) - mean) / std)
    assert torch.equal(parts.test[1], test.labels)
    assert torch.equal(parts.fixed[0], train[:40])


def test_a_chunk_gives_each_seed_its_own_examples():
    parts = load_parts(TINY)
    stage = stages_of(TINY, parts, None)["fixed"]
    places, inputs, labels = chunk(stage, TINY, 3, 7)
    assert places == {0: 0, 1: 1}
    for seed, place in places.items():
        x, y = stage.source.draw(stream("fixed", seed), 30, 40)
        assert torch.equal(inputs[:, place].reshape(40, -1), x)
        assert torch.equal(labels[:, place].reshape(40), y)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data": "small-imagenet"}, "'small-imagenet'.*never published.*Allowed: shapeset"),
        ({"data": "shapset"}, "unknown data set 'shapset'; did you mean 'shapeset'"),
        ({"data": "shapeset", "examples": 500}, "examples: got 500, but the number of Shapeset images is unlimited"),
        ({"data": "digits", "fixed_examples": 5000}, "fixed_examples: got 5000.*1132 training"),
        ({"data": "digits", "batch": 1133}, "batch: got 1133.*1132 training"),
    ],
    ids=str,
)
def test_unavailable_data_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        load_parts(Config(**{"fixed_examples": 0, **fields}))


def test_a_missing_data_set_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="MNIST"):
        load_parts(Config(data="mnist", data_root=tmp_path))
