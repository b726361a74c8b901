"""Run folders written by version 0.1.0 still open: their reports, their nets, and `--resume`.

Each folder of old_run_folders is a tiny run of one kind of study. Its summary.json holds the rows and verdicts that
0.1.0 reported, without their wording.
"""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from thruway.cli import main
from thruway.experiments import STUDIES as ALL_STUDIES
from thruway.experiments import Silent
from thruway.runs import Run, open_run

OLD = Path(__file__).parent / "old_run_folders"
STUDIES = sorted(folder.name for folder in OLD.iterdir() if folder.is_dir())
# These keep weights only to resume a training; the other studies keep nets that `thruway dissect` opens.
WITHOUT_NETS = {name for name in STUDIES if name.startswith("glorot2010.")} | {"rhn2017.depth"}
WITH_NETS = [name for name in STUDIES if name not in WITHOUT_NETS]

COMPARED = ("id", "verdict", "value", "threshold")


@pytest.fixture
def copied(tmp_path):
    """A function that copies an old run folder, without its summary, to a place where it may be written."""

    def copy(study: str) -> Path:
        return Path(shutil.copytree(OLD / study, tmp_path / study, ignore=shutil.ignore_patterns("summary.json")))

    return copy


def read_summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def differences(old, new, where="summary") -> list[str]:
    """Places where two values differ; floats may differ in their last bits, as from one processor to another."""
    if isinstance(old, float) and isinstance(new, float):
        return [] if math.isclose(old, new, rel_tol=1e-9) else [f"{where}: {old} became {new}"]
    if type(old) is not type(new):
        return [f"{where}: {old!r} became {new!r}"]
    if isinstance(old, dict):
        if old.keys() != new.keys():
            return [f"{where}: keys {list(old)} became {list(new)}"]
        return [line for key in old for line in differences(old[key], new[key], f"{where}.{key}")]
    if isinstance(old, list):
        if len(old) != len(new):
            return [f"{where}: {len(old)} entries became {len(new)}"]
        pairs = enumerate(zip(old, new, strict=True))
        return [line for i, pair in pairs for line in differences(*pair, f"{where}[{i}]")]
    return [] if old == new else [f"{where}: {old!r} became {new!r}"]


def changed(study: str, folder: Path) -> list[str]:
    """Differences between the stored summary of a study and the one just written into `folder`."""
    summary = read_summary(folder)
    claims = [{key: claim[key] for key in COMPARED} for claim in summary["claims"]]
    new = {"experiment": summary["experiment"], "rows": summary["rows"], "claims": claims}
    return differences(read_summary(OLD / study), new)


def test_every_kind_of_study_has_a_folder():
    assert len(STUDIES) >= 15
    assert all((OLD / study / part).exists() for study in STUDIES for part in ("run.json", "series.db", "summary.json"))
    assert all(read_summary(OLD / study)["rows"] and read_summary(OLD / study)["claims"] for study in STUDIES)


@pytest.mark.parametrize("study", STUDIES)
def test_report_of_an_old_folder_has_the_same_numbers(study, copied):
    folder = copied(study)
    assert main(["report", str(folder)]) == 0
    assert changed(study, folder) == []
    assert (folder / "report.html").stat().st_size > 100_000


@pytest.mark.parametrize("part", ["rows", "claims"])
def test_one_altered_number_is_found(part, copied):
    folder = copied("highway2015.depth")
    main(["report", str(folder)])
    summary = read_summary(folder)
    if part == "rows":
        summary["rows"][3]["final_loss"] *= 1 + 1e-6
    else:
        summary["claims"][0]["value"][0] += 1e-6
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    assert len(changed("highway2015.depth", folder)) == 1


@pytest.mark.parametrize("study", ["highway2015.depth", "veit2016.paths", "rhn2017.depth", "glorot2010.saturation"])
def test_resuming_an_old_folder_that_is_done_only_writes_its_report(study, copied, capsys):
    folder = copied(study)
    kept = ("run.json", "series.db")
    before = {name: (folder / name).read_bytes() for name in kept}
    assert main(["run", "--resume", str(folder)]) == 0
    assert "finished already" in capsys.readouterr().out
    assert changed(study, folder) == []
    assert {name: (folder / name).read_bytes() for name in kept} == before


@pytest.mark.parametrize("study", WITH_NETS)
def test_nets_of_an_old_folder_open(study, copied):
    reader = open_run(copied(study))
    opened = next(iter(ALL_STUDIES[study].nets(reader).values())).open(None, False)
    with torch.no_grad():
        wrong = opened.dissection.model(opened.test.images).argmax(dim=-1) != opened.test.labels
    # The test error of one of the run's nets, as it was logged after the training.
    assert wrong.double().mean().item() in reader.table(quantity="test_error")["value"].tolist()


def test_nets_of_an_old_folder_are_reused(tmp_path, copied):
    """The recipe stored with each network must still match: it holds the text of its modules."""
    for study in ("highway2015.lesion", "veit2016.paths"):
        old = open_run(copied(study))
        config = ALL_STUDIES[study].config.model_validate(old.config | {"nets_of": str(old.folder)})
        values, place = config.model_dump(mode="json"), tmp_path / "new" / study
        with Run.create(place, values, name=study, command=["test"], seeds={"seed": 0}, device="cpu") as run:
            ALL_STUDIES[study].run(config, ALL_STUDIES[study].prepare(config), run, Silent())
        new = open_run(place)
        nets = set(new.table(quantity="test_error")["site"])
        assert nets
        assert not any(new.table(quantity="seconds", site=net)["value"].any() for net in nets)
        assert new.table(quantity="train_loss")["value"].tolist() == old.table(quantity="train_loss")["value"].tolist()
