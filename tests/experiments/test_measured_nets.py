"""Every study that measures networks, from config to report; interrupted and resumed."""

import html
import json

import pytest
from measured_tiny import TINY, measurements, rows_of
from tiny_runs import StopsAt, complete, create, numbers, run_until_stopped

from thruway.experiments import STUDIES
from thruway.runs import Run, open_run


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


def test_a_run_without_progress(tmp_path):
    config = TINY["highway2015.lesion"].model_copy(update={"seeds": 1, "epochs": 1})
    folder = complete(tmp_path / "run", "highway2015.lesion", config)  # with `Silent`
    assert open_run(folder).status == "done"
