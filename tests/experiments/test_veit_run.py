"""Every study of trained nets, from config to report; interrupted, resumed, and on nets of another run."""

import html
import json

import pytest
from veit_tiny import TINY, StopsAt, complete, create, measurements, rows_of

from thruway.errors import ConfigError, RunError
from thruway.experiments import STUDIES, Silent
from thruway.runs import Run, open_run
from thruway.runs.checkpoints import save_checkpoint


@pytest.fixture(scope="module", params=TINY)
def study(request):
    return request.param


@pytest.fixture(scope="module")
def told():
    """What progress heard of each whole run."""
    return {}


@pytest.fixture(scope="module")
def whole(study, told, tmp_path_factory):
    told[study] = StopsAt(10**6)
    return complete(tmp_path_factory.mktemp("runs") / "whole", study, TINY[study], told[study])


def numbers(folder):
    """Every logged number but the time it took, by name."""
    table = open_run(folder).table()
    columns = zip(*(table[name] for name in ("site", "member", "step", "quantity", "value")), strict=True)
    return {tuple(map(str, row[:4])): float(row[4]) for row in columns if row[3] != "seconds"}


def nets_in(folder):
    """(name, seed) of each net that is trained to the end."""
    return {(site, member) for site, member, _, quantity in numbers(folder) if quantity == "test_error"}


def go(run, study, config, progress):
    """One sitting; whether it came to the end."""
    try:
        with run:
            STUDIES[study].run(config, STUDIES[study].prepare(config), run, progress)
    except KeyboardInterrupt:
        return False
    return True


def plain(value):
    """As JSON gives it back."""
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
    assert summary["rows"] == plain(rows_of(whole, study, TINY[study]))
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
    assert "No net has been measured yet" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.slow
def test_the_report_can_be_written_after_every_step(study, tmp_path):
    """Whatever is there already: no figure of nothing, no mean of nothing."""
    folder, sittings = tmp_path / "run", 1
    config = TINY[study].model_copy(update={"seeds": 1})
    done = go(create(folder, study, config), study, config, StopsAt(1))
    while not done:
        STUDIES[study].report(open_run(folder), folder)
        done = go(Run.resume(folder), study, config, StopsAt(1))
        sittings += 1
        assert sittings < 50
    assert sittings >= len(measurements(study, config))


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 2, 3])
def test_interrupted_and_resumed_is_the_same(study, whole, k, tmp_path):
    """After the first epoch, the second, and the first measurement."""
    folder, config = tmp_path / "run", TINY[study]
    assert not go(create(folder, study, config), study, config, StopsAt(k))
    assert open_run(folder).status == "interrupted"
    rest = StopsAt(10**6)
    assert go(Run.resume(folder), study, config, rest)
    assert rows_of(folder, study, config) == rows_of(whole, study, config)
    assert numbers(folder) == numbers(whole)
    everything = StopsAt(10**6)
    assert go(create(tmp_path / "again", study, config), study, config, everything)
    assert rest.reports == everything.reports - k  # nothing is done twice


def test_progress_adds_up(study, whole, told):
    progress = told[study]
    assert progress.reports == len(numbers(whole)) - len(nets_in(whole)) + len(measurements(study, TINY[study]))
    assert progress.done == pytest.approx(progress.total, rel=1e-9)  # sums in another order


def test_a_finished_run_can_be_run_again(study, whole):
    before, nothing = numbers(whole), StopsAt(1)
    assert go(Run.resume(whole), study, TINY[study], nothing)
    assert nothing.reports == 0
    assert numbers(whole) == before


# --- nets of another run

TAKERS = ["veit2016.paths", "veit2016.effective_paths"]  # all nets of the study taken over, and one of two


@pytest.fixture(scope="module")
def giver(tmp_path_factory):
    return complete(
        tmp_path_factory.mktemp("runs") / "giver",
        "veit2016.lesion",
        TINY["veit2016.lesion"].model_copy(update={"plain": ()}),
    )


@pytest.mark.parametrize("taker", TAKERS)
def test_nets_of_another_run_are_the_nets_that_would_have_been_trained(taker, giver, tmp_path):
    config = TINY[taker].model_copy(update={"seeds": 1})
    trained = complete(tmp_path / "trained", taker, config)
    taken = complete(tmp_path / "taken", taker, config.model_copy(update={"nets_of": giver}))
    assert rows_of(taken, taker, config) == rows_of(trained, taker, config)
    assert numbers(taken) == numbers(trained)
    seconds = open_run(taken).table(site="resnet", quantity="seconds")["value"]
    assert seconds.tolist() == [0.0]  # nobody trained it here


def test_nets_that_were_trained_otherwise_are_refused(giver, tmp_path):
    config = TINY["veit2016.paths"].model_copy(update={"nets_of": giver, "learning_rate": 0.05, "widths": (2, 3, 5)})
    with pytest.raises(ConfigError, match=r"resnet of seed 0 in .*giver was trained otherwise; learning_rate, net"):
        complete(tmp_path / "run", "veit2016.paths", config)


def test_nets_from_before_a_setting_was_there_had_its_default(tmp_path):
    config = TINY["veit2016.paths"].model_copy(update={"seeds": 1})
    giver = complete(tmp_path / "giver", "veit2016.paths", config)
    kept = open_run(giver).load("net-resnet-0")
    recipe = {key: value for key, value in kept.state["recipe"].items() if key not in ("contrast", "nesterov")}
    save_checkpoint(giver, "net-resnet-0", kept.tensors, {**kept.state, "recipe": recipe})
    taken = complete(tmp_path / "taken", "veit2016.paths", config.model_copy(update={"nets_of": giver}))
    assert open_run(taken).table(site="resnet", quantity="seconds")["value"].tolist() == [0.0]
    other = config.model_copy(update={"nets_of": giver, "nesterov": True})
    with pytest.raises(ConfigError, match="trained otherwise; nesterov differ"):
        complete(tmp_path / "other", "veit2016.paths", other)


def test_nets_of_no_run_are_refused_before_anything_is_made(tmp_path):
    config = TINY["veit2016.paths"].model_copy(update={"nets_of": tmp_path})
    with pytest.raises(RunError):
        STUDIES["veit2016.paths"].prepare(config)


def test_nets_that_are_not_done_are_trained(tmp_path):
    config = TINY["veit2016.paths"].model_copy(update={"seeds": 1})
    assert not go(create(tmp_path / "half", "veit2016.paths", config), "veit2016.paths", config, StopsAt(1))
    whole = complete(tmp_path / "whole", "veit2016.paths", config)
    taken = complete(tmp_path / "run", "veit2016.paths", config.model_copy(update={"nets_of": tmp_path / "half"}))
    assert rows_of(taken, "veit2016.paths", config) == rows_of(whole, "veit2016.paths", config)
    assert open_run(taken).table(site="resnet", quantity="seconds")["value"].tolist()[0] > 0


def test_silence_is_enough(tmp_path):
    config = TINY["highway2015.lesion"].model_copy(update={"seeds": 1, "epochs": 1})
    with create(tmp_path / "run", "highway2015.lesion", config) as run:
        STUDIES["highway2015.lesion"].run(config, STUDIES["highway2015.lesion"].prepare(config), run, Silent())
    assert open_run(tmp_path / "run").status == "done"
