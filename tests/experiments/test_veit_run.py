"""Every study that measures networks, from config to report; interrupted, resumed, with networks of another run."""

import html
import json

import pytest
from tiny_runs import StopsAt, complete, create, numbers, run_until_stopped
from veit_tiny import TINY, measurements, rows_of

from thruway.errors import ConfigError, RunError
from thruway.experiments import STUDIES
from thruway.runs import Run, open_run
from thruway.runs.checkpoints import save_checkpoint


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


def nets_in(folder):
    """(name, seed) of each network that is trained to the end."""
    return {(site, member) for site, member, _, quantity in numbers(folder) if quantity == "test_error"}


def as_read(value):
    """The value as it is read back from JSON."""
    return json.loads(json.dumps(value).replace("NaN", "null"))


def test_every_measurement_of_every_seed_has_its_rows(study, whole):
    rows, config = rows_of(whole, study, TINY[study]), TINY[study]
    assert {row["seed"] for row in rows} == set(config.all_seeds)
    wanted = {(each.net.name, each.net.seed) for each in measurements(study, config)}
    assert {(row["net"], row["seed"]) for row in rows} == wanted
    assert nets_in(whole) == {(name, str(seed)) for name, seed in wanted}


def test_the_report_says_what_the_rows_say(study, whole):
    table, verdicts = STUDIES[study].report(open_run(whole), whole)
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["rows"] == as_read(rows_of(whole, study, TINY[study]))
    assert [claim["verdict"] for claim in summary["claims"]] == [verdict.verdict for verdict in verdicts]
    assert len(verdicts) >= 2
    assert table.rows
    differs = " ".join(summary["meta"]["differs from the paper"])
    assert "data: digits; at paper scale: " in differs
    assert "epochs: 2; at paper scale: " in differs
    assert "seeds: " not in differs
    page = html.unescape((whole / "report.html").read_text())
    for said in ("2015" if "highway" in study else "Veit, Wilber & Belongie", *(verdict.text for verdict in verdicts)):
        assert said in page


def test_the_report_can_be_written_before_anything_has_finished(study, tmp_path):
    with create(tmp_path / "run", study, TINY[study]):
        pass
    table, verdicts = STUDIES[study].report(open_run(tmp_path / "run"), tmp_path / "run")
    assert (table.rows, verdicts) == ((), ())
    assert "No network has been measured yet" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.slow
def test_the_report_can_be_written_after_every_step(study, tmp_path):
    """At any time there is a report without empty figures and means."""
    folder, runs = tmp_path / "run", 1
    config = TINY[study].model_copy(update={"seeds": 1})
    done = run_until_stopped(create(folder, study, config), study, config, StopsAt(1))
    while not done:
        STUDIES[study].report(open_run(folder), folder)
        done = run_until_stopped(Run.resume(folder), study, config, StopsAt(1))
        runs += 1
        assert runs < 50
    assert runs >= len(measurements(study, config))


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 2, 3])
def test_interrupted_and_resumed_is_the_same(study, whole, k, tmp_path):
    """After the first epoch, the second, and the first measurement."""
    folder, config = tmp_path / "run", TINY[study]
    assert not run_until_stopped(create(folder, study, config), study, config, StopsAt(k))
    assert open_run(folder).status == "interrupted"
    remaining = StopsAt(10**6)
    assert run_until_stopped(Run.resume(folder), study, config, remaining)
    assert rows_of(folder, study, config) == rows_of(whole, study, config)
    assert numbers(folder) == numbers(whole)
    everything = StopsAt(10**6)
    assert run_until_stopped(create(tmp_path / "again", study, config), study, config, everything)
    assert remaining.reports == everything.reports - k  # nothing is done twice


def test_progress_adds_up(study, whole, progress_of):
    progress = progress_of[study]
    assert progress.reports == len(numbers(whole)) - len(nets_in(whole)) + len(measurements(study, TINY[study]))
    assert progress.done == pytest.approx(progress.total, rel=1e-9)  # sums in another order


def test_a_finished_run_can_be_run_again(study, whole):
    before, progress = numbers(whole), StopsAt(1)
    assert run_until_stopped(Run.resume(whole), study, TINY[study], progress)
    assert progress.reports == 0
    assert numbers(whole) == before


# --- networks of another run

REUSING = ["veit2016.paths", "veit2016.effective_paths"]  # one reuses all of its networks, the other one of two


@pytest.fixture(scope="module")
def other_run(tmp_path_factory):
    return complete(
        tmp_path_factory.mktemp("runs") / "other",
        "veit2016.lesion",
        TINY["veit2016.lesion"].model_copy(update={"plain": ()}),
    )


@pytest.mark.parametrize("name", REUSING)
def test_networks_of_another_run_equal_those_that_would_be_trained(name, other_run, tmp_path):
    config = TINY[name].model_copy(update={"seeds": 1})
    trained = complete(tmp_path / "trained", name, config)
    reused = complete(tmp_path / "reused", name, config.model_copy(update={"nets_of": other_run}))
    assert rows_of(reused, name, config) == rows_of(trained, name, config)
    assert numbers(reused) == numbers(trained)
    seconds = open_run(reused).table(site="resnet", quantity="seconds")["value"]
    assert seconds.tolist() == [0.0]  # it was not trained in this run


def test_networks_trained_with_other_settings_are_refused(other_run, tmp_path):
    changes = {"nets_of": other_run, "learning_rate": 0.05, "widths": (2, 3, 5)}
    config = TINY["veit2016.paths"].model_copy(update=changes)
    message = r"resnet of seed 0 in .*other was trained with other settings: learning_rate, net differ"
    with pytest.raises(ConfigError, match=message):
        complete(tmp_path / "run", "veit2016.paths", config)


def test_networks_stored_before_a_setting_existed_had_its_default(tmp_path):
    config = TINY["veit2016.paths"].model_copy(update={"seeds": 1})
    older = complete(tmp_path / "older", "veit2016.paths", config)
    stored = open_run(older).load("net-resnet-0")
    recipe = {key: value for key, value in stored.state["recipe"].items() if key not in ("contrast", "nesterov")}
    save_checkpoint(older, "net-resnet-0", stored.tensors, {**stored.state, "recipe": recipe})
    reused = complete(tmp_path / "reused", "veit2016.paths", config.model_copy(update={"nets_of": older}))
    assert open_run(reused).table(site="resnet", quantity="seconds")["value"].tolist() == [0.0]
    other = config.model_copy(update={"nets_of": older, "nesterov": True})
    with pytest.raises(ConfigError, match="trained with other settings: nesterov differ"):
        complete(tmp_path / "other", "veit2016.paths", other)


def test_nets_of_must_be_a_run_folder(tmp_path):
    config = TINY["veit2016.paths"].model_copy(update={"nets_of": tmp_path})
    with pytest.raises(RunError):
        STUDIES["veit2016.paths"].prepare(config)


def test_unfinished_networks_of_another_run_are_trained(tmp_path):
    config = TINY["veit2016.paths"].model_copy(update={"seeds": 1})
    assert not run_until_stopped(
        create(tmp_path / "half", "veit2016.paths", config), "veit2016.paths", config, StopsAt(1)
    )
    whole = complete(tmp_path / "whole", "veit2016.paths", config)
    trained = complete(tmp_path / "run", "veit2016.paths", config.model_copy(update={"nets_of": tmp_path / "half"}))
    assert rows_of(trained, "veit2016.paths", config) == rows_of(whole, "veit2016.paths", config)
    assert open_run(trained).table(site="resnet", quantity="seconds")["value"].tolist()[0] > 0


def test_a_run_without_progress(tmp_path):
    config = TINY["highway2015.lesion"].model_copy(update={"seeds": 1, "epochs": 1})
    folder = complete(tmp_path / "run", "highway2015.lesion", config)  # with `Silent`
    assert open_run(folder).status == "done"
