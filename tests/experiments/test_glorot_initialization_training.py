"""Recorded training, compared with a plain loop, and interrupted at every report of progress."""

import numpy as np
import pytest
import torch
from depth_tiny import StopsAt
from glorot_initialization_tiny import REPORTS, TINY, create, random_parts
from torch.nn import functional as F

from thruway.experiments.glorot2010.initialization_start import build_net
from thruway.experiments.glorot2010.initialization_training import (
    Training,
    read_spreads,
    read_training_rows,
    run_study,
    train_net,
)
from thruway.experiments.machinery import Silent
from thruway.runs import Run, open_run
from thruway.seeding import generator


def by_hand(scheme, seed):
    """The std of every hidden weight gradient at each sampled update, (layers, samples), and the loss."""
    model = build_net(
        (9, *(TINY.trained_width,) * TINY.depth), 3, "tanh", scheme, generator(seed, "weights", "trained")
    )
    stds, losses = [], []
    for update in range(TINY.updates):
        images, labels = random_parts().source.draw(seed, update * TINY.batch, TINY.batch)
        loss = F.cross_entropy(model(images), labels)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        if update % TINY.stride == 0:
            matrices = [g for g in gradients if g.dim() == 2][:-1]
            stds.append([g.double().std(correction=0).item() for g in matrices])
            losses.append(loss.item())
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= TINY.learning_rate * gradient
    return np.array(stds).T, losses


@pytest.mark.parametrize("scheme", ["standard", "normalized"])
def test_recorded_gradients_are_those_of_a_plain_loop(scheme, tmp_path):
    with create(tmp_path / "run", TINY) as run:
        train_net(TINY, Training(scheme, 0), random_parts(), run, Silent(), 1.0)
    reader = open_run(tmp_path / "run")
    steps, values = read_spreads(reader, TINY)[scheme]
    stds, losses = by_hand(scheme, 0)
    assert steps.tolist() == list(range(0, 40, 4))
    # Forty float32 updates and one float32 log
    np.testing.assert_allclose(values[0], stds, rtol=1e-5)
    rows = read_training_rows(reader, TINY)
    assert [row["layer"] for row in rows] == [1, 2, 3]
    for row, of_layer in zip(rows, stds, strict=True):
        # One sample in each tenth
        np.testing.assert_allclose(row["std_by_tenth"], of_layer, rtol=1e-5)
        np.testing.assert_allclose(row["loss_by_tenth"], losses, rtol=1e-5)


def numbers_of(folder):
    """Every logged number but the times, and every weight."""
    reader = open_run(folder)
    table = reader.table().where(quantity=lambda names: names != "seconds")
    keys = zip(*(table[name].tolist() for name in ("member", "step", "site", "quantity")), strict=True)
    numbers = dict(zip(keys, table["value"].tolist(), strict=True))
    weights = {name: {k: t.tolist() for k, t in reader.load(name).tensors.items()} for name in reader.checkpoints()}
    return numbers, weights


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    with create(folder, TINY) as run:
        run_study(TINY, random_parts(), run, Silent())
    return numbers_of(folder)


def test_the_number_of_progress_reports(tmp_path):
    user = StopsAt(REPORTS + 1)
    with create(tmp_path / "run", TINY) as run:
        run_study(TINY, random_parts(), run, user)
    assert user.left == 1


@pytest.mark.parametrize("k", [1, 8, 9, 16, 17, 21, 25, 26, 30, REPORTS])
def test_interrupted_and_resumed_run_is_the_same(k, whole, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt), create(folder, TINY) as run:
        run_study(TINY, random_parts(), run, StopsAt(k))
    with Run.resume(folder) as run:
        run_study(TINY, random_parts(), run, Silent())
    assert numbers_of(folder) == whole


def test_updates_made_are_not_made_again(tmp_path):
    """Shows that the test above can fail: a resumed training that began again would end the same, too."""
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt), create(folder, TINY) as run:
        train_net(TINY, Training("standard", 0), random_parts(), run, StopsAt(5), 1.0)
    assert open_run(folder).load("training-standard-0").state["updates"] == 5 * TINY.stride
    user = StopsAt(100)
    with Run.resume(folder) as run:
        train_net(TINY, Training("standard", 0), random_parts(), run, user, 1.0)
    assert 100 - user.left == 10 - 5
