"""A study of the user's own, written as docs/own_study.md says, from the command line."""

import json
import re
from pathlib import Path

import pytest

from thruway.cli import main
from thruway.cli.run import studies_in
from thruway.runs import Run, open_run

PAGE = (Path(__file__).parents[2] / "docs" / "own_study.md").read_text(encoding="utf-8")
DRAW, STUDY = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
CLAIM = re.search(r'text="(.*?)"', STUDY)[1]
TINY = ["--data-root", "shapes", "--epochs", "2", "--width", "4", "--threads", "1"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working folder with the page's study and a small folder of its images."""
    monkeypatch.chdir(tmp_path)
    namespace = {}
    exec(DRAW, namespace)
    namespace["draw_shapes"](Path("shapes"), {"train": 40, "test": 20})
    Path("my_study.py").write_text(STUDY, encoding="utf-8")
    return tmp_path


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


@pytest.mark.slow
def test_the_study_on_the_page_runs_and_reports(place, capsys):
    assert main(["run", "my_study.py:STUDY", *TINY]) == 0
    folder = place / "runs" / "shapes.convolution-demo"
    summary = summary_of(folder)
    assert [(row["net"], row["seed"]) for row in summary["rows"]] == [
        (net, seed) for seed in range(3) for net in ("dense", "convolutional")
    ]
    assert [claim["id"] for claim in summary["claims"]] == ["convolution-helps"]
    page = (folder / "report.html").read_text()
    for text in ("Do shapes need convolutions?", "One box per network", CLAIM):
        assert text in page
    assert "Beside the paper" not in page
    capsys.readouterr()

    # The report can be written again, but only if the user names the module: a run folder never has one imported.
    (folder / "summary.json").unlink()
    assert main(["report", str(folder)]) == 2
    assert "Name the study: thruway run package.module:STUDY --resume FOLDER" in capsys.readouterr().err
    assert main(["report", str(folder), "--study", "my_study.py:STUDY"]) == 0
    assert summary_of(folder)["rows"] == summary["rows"]

    # Its networks serve another run.
    assert main(["run", "my_study.py:STUDY", *TINY, "--nets-of", str(folder), "--out", "again"]) == 0
    again = summary_of(place / "again")
    assert again["rows"] == summary["rows"]
    assert not any(open_run(place / "again").table(site="dense", quantity="seconds")["value"])


@pytest.mark.slow
def test_an_interrupted_study_of_ones_own_is_resumed(place, monkeypatch, capsys):
    assert main(["run", "my_study.py:STUDY", *TINY, "--out", "whole"]) == 0
    from thruway.cli.console import ConsoleProgress

    advance, steps = ConsoleProgress.advance, []

    def stop_at_third(self, done, doing):
        advance(self, done, doing)
        steps.append(doing)
        if len(steps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(ConsoleProgress, "advance", stop_at_third)
    assert main(["run", "my_study.py:STUDY", *TINY, "--out", "cut"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "resume with: thruway run my_study.py:STUDY --resume cut" in printed
    assert main(["run", "--resume", "cut"]) == 2
    assert main(["run", "my_study.py:STUDY", "--resume", "cut"]) == 0
    assert summary_of(place / "cut")["rows"] == summary_of(place / "whole")["rows"]


@pytest.mark.parametrize("module", ["my_study.py", "my_study.py:STUDY"])
def test_its_studies_are_listed(place, capsys, module):
    assert main(["list", module]) == 0
    assert "my_study.py:STUDY" in capsys.readouterr().out
    assert list(studies_in("my_study.py")) == ["my_study.py:STUDY"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my_study.py:STUDI", "unknown study 'STUDI'; did you mean 'STUDY'?"),
        ("my_study.py:Config", "is not a study, but the class Config. Name a study: STUDY."),
        ("my_study.py:build", "is not a study, but of type function. Name a study: STUDY."),
        ("my_study.py", "Write package.module:NAME, as in an import, or path/to/file.py:NAME."),
        ("nowhere.py:STUDY", "there is no file nowhere.py"),
        ("no_such_package.study:STUDY", "there is no module 'no_such_package'"),
        ("broken.py:STUDY", "importing broken.py failed: ZeroDivisionError: division by zero (broken.py, line 2)."),
        ("needs.py:STUDY", "needs.py imports 'no_such_package', which is not installed."),
        ("taken.py:STUDY", "one of Thruway's own studies. Give it another name."),
        ("unnamed.py:STUDY", "the study name 'a/b' is not allowed"),
        ("unscaled.py:STUDY", "the scales of x must be a non-empty mapping of scale name to Config"),
        ("listed.py:STUDY", "the scales of x must be a non-empty mapping of scale name to Config"),
        ("unequal.py:STUDY", "holds_if must be one of <=, >=, <, got 'less'"),
        ("misspelt.py:STUDY", "ValidationError: epoch: Extra inputs are not permitted (misspelt.py, line"),
        ("shadowing.py:STUDY", "Config has the field threads, which is an option of thruway run"),
        ("twins.py:STUDY", "two contenders have the name dense. Give each its own name."),
        ("nobody.py:STUDY", "there are no contenders. Return at least one Contender."),
        ("one_claim.py:STUDY", "claims must be a sequence of Claim or a function, got Claim"),
        ("no_function.py:STUDY", "contenders must be a function, got tuple"),
        ("my_study.py:STUDY.name.x", "unknown study 'STUDY.name.x'"),
        ("slashed.py:STUDY", "the contender name 'a/dense' is not allowed"),
        ("highway2015.dept", "did you mean 'highway2015.depth'?"),
    ],
)
def test_wrong_studies_are_refused_with_advice(place, capsys, name, said):
    Path("broken.py").write_text("x = 1\nx / 0\n")
    Path("needs.py").write_text("import no_such_package\n")
    for file, old, new in (
        ("taken.py", "shapes.convolution", "highway2015.depth"),
        ("unnamed.py", "shapes.convolution", "a/b"),
        ("unscaled.py", "scales=SCALES", "scales={}"),
        ("listed.py", "scales=SCALES", "scales=[Config()]"),
        ("unequal.py", 'holds_if="<="', 'holds_if="less"'),
        ("misspelt.py", "epochs=5", "epoch=5"),
        ("shadowing.py", "width: int = 16", "width: int = 16\n    threads: int = 1"),
        ("twins.py", '("dense", "convolutional"))', '("dense", "dense"))'),
        ("nobody.py", '("dense", "convolutional"))', "())"),
        ("one_claim.py", "claims=CLAIMS", "claims=CLAIMS[0]"),
        ("no_function.py", "contenders=contenders", "contenders=()"),
        ("slashed.py", "Contender(kind, kind", 'Contender(f"a/{kind}", kind'),
    ):
        Path(file).write_text(STUDY.replace(old, new).replace('name="shapes.convolution"', 'name="x"'))
    assert main(["run", name, "--data-root", "shapes"]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not Path("runs").exists()


def test_a_module_without_studies_says_so(place, capsys):
    assert main(["list", "math"]) == 2
    assert "math defines no study." in capsys.readouterr().err


def test_the_run_of_another_study_is_refused(place, capsys):
    assert main(["run", "highway2015.depth", "--out", "depth", "--depths", "2", "--trials", "1", "--epochs", "1"]) == 0
    assert main(["report", "depth", "--study", "my_study.py:STUDY"]) == 2
    assert "holds a run of highway2015.depth, but my_study.py:STUDY was given" in " ".join(
        capsys.readouterr().err.split()
    )


def test_opening_a_run_folder_imports_nothing(place, capsys):
    """A run folder from somebody else may name any module; it is never imported because of that."""
    Path("evil.py").write_text("from pathlib import Path\nPath('canary').touch()\n")
    with Run.create(place / "run", {}, name="evil", command=["thruway"], seeds={"seed": 0}, device="cpu"):
        pass
    assert main(["report", "run"]) == 2
    assert main(["run", "--resume", "run"]) == 2
    assert capsys.readouterr().err.count("Name the study") == 2
    assert not Path("canary").exists()
    assert main(["report", "run", "--study", "evil.py:STUDY"]) == 2  # the user named it, so it is imported
    assert Path("canary").exists()


@pytest.mark.slow
def test_a_network_of_its_run_is_dissected(place, capsys):
    assert main(["run", "my_study.py:STUDY", *TINY, "--seeds", "1", "--out", "run"]) == 0
    choice = ["--net", "net-dense-0", "--structure"]
    assert main(["dissect", "run", *choice]) == 2
    assert "Name the study" in capsys.readouterr().err
    assert main(["dissect", "run", "--study", "my_study.py:STUDY", *choice]) == 0
    assert "dense network of seed 0, trained 2 epochs on folder" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_claim_that_raises_is_named_and_its_results_are_kept(place, capsys):
    Path("wrong.py").write_text(
        STUDY.replace('measure=excess("convolutional", "dense")', 'measure=lambda rows: rows[0]["accuracy"]')
    )
    assert main(["run", "wrong.py:STUDY", *TINY, "--out", "run"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "claim 'convolution-helps': its measure failed on rows with the keys net, seed, parameters, error," in said
    assert "KeyError: 'accuracy'. The results are saved" in said
    assert main(["report", "run", "--study", "my_study.py:STUDY"]) == 0
    assert len(summary_of(place / "run")["rows"]) == 6


@pytest.mark.slow
def test_networks_trained_on_other_images_are_not_reused(place, capsys):
    assert main(["run", "my_study.py:STUDY", *TINY, "--out", "run"]) == 0
    image = next(Path("shapes/train/disc").iterdir())
    image.write_bytes(next(Path("shapes/train/square").iterdir()).read_bytes())
    assert main(["run", "my_study.py:STUDY", *TINY, "--nets-of", "run", "--out", "again"]) == 2
    assert "trained with other settings: images differ" in " ".join(capsys.readouterr().err.split())


def test_build_must_return_a_module(place, capsys):
    Path("wrong.py").write_text(STUDY.replace("    return model\n", ""))
    assert main(["run", "wrong.py:STUDY", *TINY]) == 2
    assert "dense: build returned NoneType, but must return a torch.nn.Module" in capsys.readouterr().err


OWN_SCALES = """
from pydantic import BaseModel

from thruway.experiments import Claim, Study, StudyPage
from thruway.report import TableData


class Config(BaseModel):  # not frozen, and without a field for its scale
    size: int = 1


def run(config, prepared, run, progress):
    run.log(0, {"size": float(config.size)}, site="all", member=0)


def rows(reader, config):
    return [{"seed": 0, "size": value} for value in reader.table(quantity="size")["value"].tolist()]


STUDY = Study(
    name="own.sizes",
    title="sizes",
    source="ours",
    config=Config,
    scales={"small": Config(size=2), "big": Config(size=20)},
    prepare=lambda config: None,
    run=run,
    rows=rows,
    claims=(Claim("large", "It is large.", "ours", "size", lambda rows: rows[0]["size"], ">=", 10),),
    page=lambda reader, config, rows: StudyPage("How large?", "ours", "", (), TableData(("size",), ((config.size,),))),
)
"""


@pytest.mark.parametrize(
    ("arguments", "folder", "size"),
    [
        ([], "own.sizes-small", 2),
        (["--scale", "big"], "own.sizes-big", 20),
        (["--scale=big"], "own.sizes-big", 20),
        (["--scale", "big", "--size", "7"], "own.sizes-big", 7),
    ],
)
def test_a_study_may_have_scales_of_its_own(place, arguments, folder, size):
    Path("own.py").write_text(OWN_SCALES)
    assert main(["run", "own.py:STUDY", *arguments]) == 0
    summary = summary_of(place / "runs" / folder)
    assert summary["rows"] == [{"seed": 0, "size": float(size)}]
    assert main(["run", "own.py:STUDY", "--help"]) == 0


def test_images_of_a_study_may_have_scales_of_their_own(place):
    Path("own.py").write_text(STUDY.replace('"demo": Config(', '"tiny": Config(').replace('scale="laptop", ', ""))
    assert main(["run", "own.py:STUDY", *TINY, "--seeds", "1", "--scale", "tiny"]) == 0
    assert summary_of(place / "runs" / "shapes.convolution-tiny")["meta"]["scale"] == "tiny"
