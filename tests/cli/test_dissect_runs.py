"""Dissection of networks from run folders: the same networks on the same data."""

import json

import pytest
import torch
from command import RUN, TINY, call

from thruway.experiments import STUDIES
from thruway.experiments.machinery import choose_net
from thruway.runs import Run, open_run

VEIT = ["--modules", "3", "--widths", "3", "3", "3", "--epochs", "1", "--examples", "100", "--test-examples", "60"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A depth search and a lesion study, each of a second."""
    from thruway.cli import main

    place = tmp_path_factory.mktemp("runs")
    assert main([*RUN, *TINY, "--depths", "3", "--out", str(place / "depth")]) == 0
    lesion = ["run", "veit2016.lesion", *VEIT, "--batch", "50", "--draws", "1", "--vgg-width", "2", "--swaps", "1"]
    assert main([*lesion, "--plain", "vgg", "--out", str(place / "veit")]) == 0
    return place


def found(capsys, *arguments):
    said = call(capsys, "dissect", *arguments, "--json", "-", "--draws", "2", "--examples", "9999")
    assert said.code == 0, said.all
    return json.loads(said.out)


def stored_nets(folder):
    """The trained nets of a run folder, by name."""
    reader = open_run(folder)
    return STUDIES[reader.name].nets(reader)


def test_every_study_that_trains_whole_nets_keeps_them():
    papers = ("veit2016", "highway2015", "he2016", "srivastava2025")
    keepers = {name for name, study in STUDIES.items() if study.stored_nets is not None}
    assert keepers == {name for name in STUDIES if name.startswith(papers)}


def test_the_intact_net_has_the_error_that_its_run_logged(capsys, runs):
    for net in stored_nets(runs / "depth"):
        case, member = net.split("/")
        block, depth, _ = case.split("-")
        logged = open_run(runs / "depth").table(site=f"{block}/{depth}", member=int(member), quantity="test_error")
        results = found(capsys, runs / "depth", "--net", net)
        # population and module differ by rounding, which may turn one of 382 answers
        assert results["lesions"][0]["intact"] == pytest.approx(float(logged["value"][0]), abs=1.5 / 382)
        kinds = {"plain": "module", "highway": "gated", "residual": "identity"}
        assert {branch["kind"] for branch in results["branches"]} == {kinds[block]}


def test_lesions_are_those_that_the_study_measured(capsys, runs):
    rows = open_run(runs / "veit").load("delete_one-resnet-0").state["rows"]
    results = found(capsys, runs / "veit", "--net", "net-resnet-0")
    assert [each["value"] for each in results["lesions"][0]["without"]] == [row["error"] for row in rows]
    assert results["lesions"][0]["intact"] == rows[0]["intact"]
    assert len(results["paths"]["counts"]) == 10


def test_a_plain_net_has_no_paths(capsys, runs):
    rows = open_run(runs / "veit").load("delete_one-vgg-0").state["rows"]
    results = found(capsys, runs / "veit" / "checkpoints" / "net-vgg-0.safetensors")
    assert [each["value"] for each in results["lesions"][0]["without"]] == [row["error"] for row in rows]
    assert "paths" not in results
    assert any("no shortcuts" in note for note in results["notes"])


def test_a_checkpoint_names_its_net(capsys, runs):
    for file in ("residual-3-relu", "residual-3-tanh"):
        path = runs / "depth" / "checkpoints" / f"{file}.safetensors"
        if not path.exists():
            continue
        nets = [net for net in stored_nets(runs / "depth") if net.startswith(file)]
        if len(nets) == 1:
            assert "residual" in found(capsys, path)["about"]
        else:
            said = call(capsys, "dissect", path)
            assert f"holds {len(nets)} networks: {', '.join(nets)}. Choose one: --net {nets[0]}." in said.all
            assert found(capsys, path, "--net", nets[1], "--structure")["about"].startswith("residual network of 3")


def test_an_ambiguous_net_is_refused(capsys, runs):
    said = call(capsys, "dissect", runs / "veit")
    assert said.code == 2
    assert "has 2 networks: net-resnet-0, net-vgg-0. Choose one: --net net-resnet-0." in said.all
    said = call(capsys, "dissect", runs / "veit", "--net", "net-resnet-1")
    assert "unknown net 'net-resnet-1'; did you mean 'net-resnet-0'?" in said.all
    said = call(capsys, "dissect", runs / "veit" / "checkpoints" / "net-vgg-0.json", "--net", "net-resnet-0")
    assert "is the checkpoint 'net-vgg-0', but --net is net-resnet-0" in said.all
    said = call(capsys, "dissect", runs / "veit" / "checkpoints" / "delete_one-vgg-0.json")
    assert "unknown net 'delete_one-vgg-0'" in said.all


def test_an_unknown_run_is_refused_with_advice(capsys, empty_place):
    with Run.create(empty_place / "own", {}, name="own", command=[], seeds={}, device="cpu") as run:
        run.save("last", {"weight": torch.ones(1)})
    said = call(capsys, "dissect", empty_place / "own")
    assert said.code == 2
    assert "Name the study: thruway run package.module:STUDY --resume FOLDER" in said.all


def test_a_run_without_trained_nets_is_refused_with_advice(capsys, empty_place):
    config = STUDIES["veit2016.paths"].scales["demo"].model_dump(mode="json")
    run = Run.create(empty_place / "own", config, name="veit2016.paths", command=[], seeds={}, device="cpu")
    with run:
        pass
    said = call(capsys, "dissect", empty_place / "own")
    assert said.code == 1
    assert "has no trained network yet. Let the run finish: thruway run --resume" in said.all


def test_a_half_trained_net_is_not_listed(tmp_path):
    config = STUDIES["veit2016.paths"].config(modules=1, epochs=2, seeds=2).model_dump(mode="json")
    run = Run.create(tmp_path / "own", config, name="veit2016.paths", command=[], seeds={}, device="cpu")
    with run:
        for seed, epoch in ((0, 1), (1, 2)):
            run.save(f"net-resnet-{seed}", {"weight": torch.ones(1)}, state={"epoch": epoch})
    assert list(stored_nets(tmp_path / "own")) == ["net-resnet-1"]


def test_missing_data_is_reported(capsys, runs, tmp_path):
    said = call(capsys, "dissect", runs / "veit", "--net", "net-resnet-0", "--data", "mnist", "--data-root", tmp_path)
    assert said.code == 1
    assert "MNIST (test part) was not found" in said.all


def test_the_only_net_needs_no_name(tmp_path):
    config = STUDIES["veit2016.paths"].config(modules=1, epochs=1, seeds=1).model_dump(mode="json")
    run = Run.create(tmp_path / "own", config, name="veit2016.paths", command=[], seeds={}, device="cpu")
    with run:
        run.save("net-resnet-0", {"weight": torch.ones(1)}, state={"epoch": 1})
    assert choose_net(stored_nets(tmp_path / "own"), None, tmp_path).name == "net-resnet-0"
