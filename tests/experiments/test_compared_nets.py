"""Every study that compares networks, from config to report; interrupted and resumed; and networks that overflow."""

import html
import json
import math

import pytest
import torch
from compared_tiny import (
    STUDIES,
    TINY,
    StopsAt,
    complete,
    contenders,
    create,
    numbers,
    rows_of,
    run_until_stopped,
)

from thruway.experiments.machinery import load_images
from thruway.experiments.machinery.contenders import measurements_of
from thruway.experiments.machinery.training import trained_net
from thruway.runs import Run, open_run
from thruway.seeding import generator


@pytest.fixture(scope="module", params=TINY)
def study(request):
    return request.param


@pytest.fixture(scope="module")
def progress_of():
    """Study -> the progress of its whole run."""
    return {}


@pytest.fixture(scope="module")
def whole(study, progress_of, tmp_path_factory):
    progress_of[study] = StopsAt(10**6)
    return complete(tmp_path_factory.mktemp("runs") / "whole", study, TINY[study], progress_of[study])


def measurements(study):
    return measurements_of(contenders(study, TINY[study]), TINY[study].all_seeds)


def test_every_net_of_every_seed_has_its_row(study, whole):
    config = TINY[study]
    rows = rows_of(whole, study, config)
    wanted = [(each.name, seed) for seed in config.all_seeds for each in contenders(study, config)]
    assert [(row["net"], row["seed"]) for row in rows] == wanted
    assert len(set(wanted)) == len(wanted)


def test_rows_say_what_the_nets_do(study, whole):
    """Errors counted one example at a time."""
    config = TINY[study]
    parts, reader = load_images(config), open_run(whole)
    for each, row in zip(measurements(study), rows_of(whole, study, config), strict=True):
        net = trained_net(config, each.net, parts, reader)
        for part, column in ((parts.test, "error"), (parts.train, "train_error")):
            pairs = list(zip(part.images, part.labels, strict=True))
            with torch.no_grad():
                right = sum(int(net(image[None]).argmax()) == int(label) for image, label in pairs)
            assert row[column] == pytest.approx(1 - right / len(pairs), abs=1e-12)
        assert row["parameters"] == sum(parameter.numel() for parameter in net.parameters())


def test_the_report_says_what_the_rows_say(study, whole):
    table, verdicts = STUDIES[study].report(open_run(whole), whole)
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["rows"] == rows_of(whole, study, TINY[study])
    assert [claim["verdict"] for claim in summary["claims"]] == [verdict.verdict for verdict in verdicts]
    assert len(verdicts) >= 2
    assert [row[0] for row in table.rows] == [each.label for each in contenders(study, TINY[study])]
    differs = " ".join(summary["meta"]["differs from the paper"])
    for said in ("data: digits; at paper scale: ", "epochs: 2; at paper scale: ", "thresholds are ours"):
        assert said in differs
    page = html.unescape((whole / "report.html").read_text())
    source = {"highway2015": "Srivastava, Greff", "srivastava2025": "Srivastava 2025", "he2016": "He, Zhang"}
    for said in (source[study.partition(".")[0]], *(verdict.text for verdict in verdicts)):
        assert said in page


def test_the_report_can_be_written_before_anything_has_finished(study, tmp_path):
    with create(tmp_path / "run", study, TINY[study]):
        pass
    table, verdicts = STUDIES[study].report(open_run(tmp_path / "run"), tmp_path / "run")
    assert (table.rows, verdicts) == ((), ())
    page = (tmp_path / "run" / "report.html").read_text()
    assert "No network has been measured yet" in page
    assert "Beside the paper" not in page


@pytest.mark.slow
def test_the_report_can_be_written_after_every_step(study, tmp_path):
    """At any time there is a report without empty figures and means, and the answer once every network is there."""
    folder, resumed, leads = tmp_path / "run", 0, []
    config = TINY[study].model_copy(update={"seeds": 1})
    done = run_until_stopped(create(folder, study, config), study, config, StopsAt(1))
    while not done:
        STUDIES[study].report(open_run(folder), folder)
        leads.append("Test errors so far: " in (folder / "report.html").read_text())
        done = run_until_stopped(Run.resume(folder), study, config, StopsAt(1))
        resumed += 1
        assert resumed < 60
    STUDIES[study].report(open_run(folder), folder)
    assert "Test errors so far: " not in (folder / "report.html").read_text()
    assert any(leads)
    assert resumed >= len(contenders(study, config))


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 2, 3])
def test_interrupted_and_resumed_is_the_same(study, whole, k, tmp_path):
    """After the first epoch, the second, and the first test; dropout draws what it would have drawn."""
    folder, config = tmp_path / "run", TINY[study]
    assert not run_until_stopped(create(folder, study, config), study, config, StopsAt(k))
    assert open_run(folder).status == "interrupted"
    assert run_until_stopped(Run.resume(folder), study, config)
    assert rows_of(folder, study, config) == rows_of(whole, study, config)
    assert numbers(folder) == numbers(whole)


def test_progress_adds_up(study, progress_of, whole):
    progress = progress_of[study]
    nets = len(contenders(study, TINY[study])) * TINY[study].seeds
    assert progress.reports == nets * (TINY[study].epochs + 1)
    assert progress.done == pytest.approx(progress.total, rel=1e-9)  # sums in another order


def test_seeds_and_nets_are_independent(study):
    """No two networks of a study start with the same weights, and the same seed gives the same weights."""
    parts = load_images(TINY[study])
    firsts = []
    for each in measurements(study):
        for _ in range(2):
            net = each.net.build(parts, generator(each.net.seed, "weights", each.net.name), torch.Generator())
            firsts.append(next(net.parameters()).detach().flatten()[:8].tolist())
    assert firsts[::2] == firsts[1::2]
    assert len({tuple(first) for first in firsts}) == len(firsts) // 2


def test_nets_that_overflow_are_reported_and_do_not_stop_the_study(tmp_path):
    name = "srivastava2025.reply"
    config = TINY[name].model_copy(update={"learning_rate": 1e30, "weight_decay": 1.0, "seeds": 1, "warmup": 0})
    folder = complete(tmp_path / "run", name, config)
    losses = [float(value) for key, value in numbers(folder).items() if key[3] == "train_loss"]
    assert not all(math.isfinite(loss) for loss in losses)
    STUDIES[name].report(open_run(folder), folder)
    assert "Losses that are above 20 nats or not finite are omitted: " in (folder / "report.html").read_text()


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("scale", ["demo", "laptop", "paper"])
def test_scales_know_their_names_and_seeds(name, scale):
    config = STUDIES[name].scales[scale]
    assert isinstance(config, STUDIES[name].config)
    assert config.scale == scale
    assert config.seeds >= 3 or scale == "demo"
