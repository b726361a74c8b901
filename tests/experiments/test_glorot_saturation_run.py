"""The numbers of a study, compared with plain PyTorch and NumPy, and unchanged by interruptions."""

import json

import numpy as np
import pytest
import torch
from depth_tiny import StopsAt, strict
from glorot_saturation_tiny import SATURATION, TINIER, TINY, complete, create, numbers
from torch.nn import functional as F

from thruway.cli import main
from thruway.errors import RunError
from thruway.experiments.glorot2010 import saturation_training
from thruway.experiments.glorot2010.saturation import Config, cases, load_parts, new_net, stream
from thruway.experiments.glorot2010.saturation_page import end_histograms, over_time
from thruway.experiments.glorot2010.saturation_training import histograms, read_courses, read_ends
from thruway.experiments.machinery import Silent
from thruway.runs import Run, open_run
from thruway.watching import Quantity, WatchWarning


@pytest.fixture(scope="module")
def parts():
    return load_parts(TINY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return complete(tmp_path_factory.mktemp("runs") / "tiny", TINY)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return complete(tmp_path_factory.mktemp("runs") / "whole", TINIER)


def go(run, parts, progress):
    """Run until the end or an interrupt; return whether it reached the end."""
    try:
        with run:
            SATURATION.run(TINIER, parts, run, progress)
    except KeyboardInterrupt:
        return False
    return True


def trained_alone(case, parts, updates):
    """The network after this many updates by torch alone, not watched, and the training loss of each."""
    net, losses = new_net(TINY, case, parts), []
    optimizer = torch.optim.SGD(net.parameters(), lr=case.rate)
    for update in range(updates):
        inputs, labels = parts.source.draw(stream("train", case.seed), update * TINY.batch, TINY.batch)
        optimizer.zero_grad()
        loss = F.cross_entropy(net(inputs), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return net, losses


def hidden(net, activation, inputs):
    """Every hidden layer's values in float64 NumPy."""
    function = {
        "sigmoid": lambda s: 1 / (1 + np.exp(-s)),
        "tanh": np.tanh,
        "softsign": lambda s: s / (1 + np.abs(s)),
    }[activation]
    z, layers = inputs.double().numpy(), []
    for layer in (net.stem, *net.blocks):
        z = function(z @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy())
        layers.append(z)
    return layers


LOW = {"sigmoid": 0.05, "tanh": -0.9, "softsign": -0.9}
HIGH = {"sigmoid": 0.95, "tanh": 0.9, "softsign": 0.9}


@pytest.mark.parametrize("case", cases(TINY), ids=lambda case: case.checkpoint)
@pytest.mark.parametrize("look", [0, 4, 10])
def test_records_are_those_of_a_network_that_is_not_watched(case, look, folder, parts):
    (seen,) = [c for c in read_courses(open_run(folder), TINY) if c.case == case]
    assert tuple(seen.steps) == case.stops
    net, _ = trained_alone(case, parts, case.stops[look])
    kind = case.net.activation
    layers = hidden(net, kind, parts.probe)
    expected = {
        "mean": [z.mean() for z in layers],
        "std": [z.std() for z in layers],
        "p2": [np.percentile(z, 2) for z in layers],
        "p50": [np.percentile(z, 50) for z in layers],
        "p98": [np.percentile(z, 98) for z in layers],
        "saturation_low": [(z <= LOW[kind]).mean() for z in layers],
        "saturation_high": [(z >= HIGH[kind]).mean() for z in layers],
        "knees": [((np.abs(z) >= 0.6) & (np.abs(z) <= 0.8)).mean() for z in layers],
        "middle": [(np.abs(z) <= 0.1).mean() for z in layers],
    }
    for quantity, values in expected.items():
        # float32 sums of 64 products of size 1, and a mean of 120 values: errors below 1e-6 each.
        np.testing.assert_allclose(seen[quantity][:, look], values, rtol=0, atol=3e-6, err_msg=quantity)


@pytest.mark.parametrize("case", cases(TINY)[:5], ids=lambda case: case.checkpoint)
def test_watching_does_not_change_a_bit_of_the_network(case, folder, parts):
    net, losses = trained_alone(case, parts, case.updates)
    saved = open_run(folder).load(case.checkpoint).tensors
    assert all(torch.equal(saved[name], tensor) for name, tensor in net.state_dict().items())
    last = case.stops[-2]
    end = read_ends(open_run(folder), TINY)[case]
    np.testing.assert_allclose(end["training_loss"], np.mean(losses[last:]), rtol=1e-6)  # a float32 series


def test_histograms_count_the_values_of_each_layer(folder, parts):
    for case in cases(TINY)[:5]:
        net, _ = trained_alone(case, parts, case.updates)
        edges, shares = histograms(open_run(folder), case)
        for z, borders, found in zip(hidden(net, case.net.activation, parts.probe), edges, shares, strict=True):
            np.testing.assert_allclose(borders[[0, -1]], [z.min(), z.max()], atol=1e-6)
            expected = np.histogram(z, borders.clip(z.min(), z.max()))[0] / z.size
            # A value within rounding of a border may fall on either side of it: two of 120 values here.
            np.testing.assert_allclose(found.cumsum(), expected.cumsum(), atol=2.1 / z.size)
            assert found.sum() == pytest.approx(1, abs=1e-5)


def test_kinds_of_one_seed_start_from_the_same_draws(parts):
    found = {case.name: new_net(TINY, case, parts) for case in cases(TINY) if case.seed == 1}
    standard, normalized = (found[name].stem.weight for name in ("tanh", "tanh-n"))
    assert torch.equal(standard, found["softsign"].stem.weight)
    assert standard.abs().max() <= parts.inputs**-0.5  # Eq. 1
    ratio = (6 / (parts.inputs + TINY.width)) ** 0.5 / parts.inputs**-0.5  # Eq. 16 over Eq. 1
    torch.testing.assert_close(normalized, ratio * standard)
    assert not any(bias.any() for net in found.values() for name, bias in net.named_parameters() if "bias" in name)


# Reports: one per look and net, of two nets.
@pytest.mark.parametrize("k", [1, 4, 10, 11, 15, 20])
def test_one_interruption_changes_nothing(k, parts, whole, tmp_path):
    folder = tmp_path / "run"
    assert not go(create(folder, TINIER), parts, StopsAt(k))
    assert open_run(folder).status == "interrupted"
    SATURATION.report(open_run(folder), folder)
    assert go(Run.resume(folder), parts, Silent())
    assert numbers(folder) == numbers(whole)


def test_a_run_killed_between_two_saves_can_be_resumed(parts, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(saturation_training, "_SAVE_EVERY_S", -1.0)
    train, calls = saturation_training._train, 0

    def killed(*given):
        nonlocal calls
        calls += 1
        if calls == 7:
            raise RuntimeError("killed")
        return train(*given)

    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(saturation_training, "_train", killed)
        with pytest.raises(RuntimeError, match="killed"):
            go(create(folder, TINIER), parts, Silent())
    run = Run.resume(folder)
    assert run.load("sigmoid-4-0").state["update"] == cases(TINIER)[0].stops[6]
    assert go(run, parts, Silent())
    assert numbers(folder) == numbers(whole)


def test_a_finished_run_can_be_run_again(parts, whole, tmp_path):
    folder = complete(tmp_path / "run", TINIER)
    assert go(Run.resume(folder), parts, Silent())
    assert numbers(folder) == numbers(whole)


def test_a_statistic_that_raises_fails_the_run(parts, tmp_path, monkeypatch):
    def broken(_rows):
        raise ValueError("no number")

    monkeypatch.setattr(saturation_training, "WATCHED", (Quantity("broken", "", broken),))
    with (
        pytest.warns(WatchWarning, match="no number"),
        pytest.raises(RunError, match="recording stopped before the end"),
    ):
        go(create(tmp_path / "run", TINIER), parts, Silent())


def test_the_report_agrees_with_the_rows(folder):
    table, verdicts = SATURATION.report(open_run(folder), folder)
    summary = strict((folder / "summary.json").read_text())
    assert [row["net"] for row in summary["rows"]] == [case.name for case in cases(TINY)]
    assert [claim["verdict"] for claim in summary["claims"]] == [v.verdict for v in verdicts]
    assert len(verdicts) == 12
    rows = [row for row in summary["rows"] if row["net"] == "softsign"]
    line = next(line for line in table.rows if line[:2] == ("Softsign", 2))
    assert line[4] == pytest.approx(np.mean([row["std"][1] for row in rows]))
    page = (folder / "report.html").read_text()
    assert "chosen in pilot runs" in page
    assert json.dumps("Tanh, normalized (fig. 10)")[1:-1] in page


def test_figures_show_what_was_logged(folder):
    reader = open_run(folder)
    for seen in read_courses(reader, TINY)[:5]:
        lines = [trace for trace in over_time(seen).data if trace.name == "layer 2" and trace.fill is None]
        assert all(list(line.x) == list(seen.case.stops) for line in lines)
        looks = {(line.marker.symbol, line.line.dash): line.y for line in lines}
        drawn = {(None, None): "mean"}
        if seen.case.net.activation != "sigmoid":
            drawn = {(None, None): "p50", ("circle", None): "p98", ("circle-open", None): "p2", (None, "dash"): "std"}
        for look, quantity in drawn.items():
            np.testing.assert_allclose(looks[look], seen[quantity][1], rtol=1e-6, err_msg=quantity)
    figure = end_histograms(reader, [c for c in cases(TINY)[:5] if c.net.activation != "sigmoid"])
    assert len(figure.data) == 3 * 5


def test_a_wrong_command_explains_the_error_and_leaves_no_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments, said in (
        (["--updates", "20"], "updates is at least looks (80), got 20"),
        (["--nets", "tanh", "tanh"], "nets names each kind once, got tanh, tanh"),
        (["--examples", "100"], "the number of Shapeset images is unlimited"),
        (["--data", "shapes"], "did you mean 'shapeset'"),
        (["--data", "digits", "--probe", "5000"], "probe: got 5000, but digits has"),
    ):
        assert main(["run", "glorot2010.saturation", *arguments]) != 0
        assert said in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_probe_and_training_examples_are_different_streams():
    config = Config(size=10, probe=50)
    parts = load_parts(config)
    training, _ = parts.source.draw(stream("train", 0), 0, 50)
    assert not any(torch.equal(a, b) for a in parts.probe for b in training)
    assert torch.equal(parts.probe, load_parts(config).probe)
