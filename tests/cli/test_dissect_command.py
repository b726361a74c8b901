"""The command `thruway dissect`: results known by hand, and refusals that leave nothing behind."""

import importlib
import itertools
import json
import math
import sys

import numpy as np
import pytest
import torch
from command import call
from dissect_models import SOURCE, labelled, planted
from safetensors.torch import save_file

from thruway.cli.dissect_batches import batched
from thruway.cli.dissect_measuring import default_counts
from thruway.dissecting import Error, dissect


@pytest.fixture(autouse=True)
def mynets(empty_place, monkeypatch):
    """A module of the user's in the working folder, forgotten afterwards."""
    (empty_place / "mynets.py").write_text(SOURCE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "mynets", raising=False)
    importlib.invalidate_caches()
    yield
    sys.modules.pop("mynets", None)


def found(capsys, *arguments):
    """What the command wrote, as a program reads it."""
    said = call(capsys, "dissect", *arguments, "--json", "-")
    assert said.code == 0, said.all
    return json.loads(said.out, parse_constant=lambda literal: pytest.fail(f"{literal} is not JSON"))


def left_behind(place):
    return sorted(path.name for path in place.iterdir() if path.name not in ("mynets.py", "__pycache__"))


# --- numbers


def test_the_planted_branches_are_distinguished(capsys):
    results = found(capsys, "mynets:with_batches", "--deletions", "1", "2", "--draws", "4")
    error, loss = results["lesions"]
    assert (error["metric"], error["intact"], error["examples"]) == ("error", 0.0, 4)
    assert [row["change"] for row in error["without"]] == [1.0, 0.0]
    # logits (-1, 1) and (-2, 2), the second is right; without branch 0 they are (1, 0) and (2, 0)
    before = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-4))) / 2
    after = (math.log1p(math.exp(1)) + math.log1p(math.exp(2))) / 2
    assert loss["intact"] == pytest.approx(before, rel=1e-6)  # float32 in the net
    assert loss["without"][0]["value"] == pytest.approx(after, rel=1e-6)
    assert results["paths"]["counts"] == ["1", "2", "1"]
    assert {row["value"] for row in results["deleted"]["rows"] if row["k"] == 2} == {1.0}
    assert [row["norm"] > 0 for row in results["rankings"]] == [True, False]
    assert "Branch 0 (0) matters most" in results["summary"]


def test_json_has_the_numbers_of_the_library(capsys):
    results = found(
        capsys, "mynets:with_batches", "--draws", "3", "--seed", "5", "--path-examples", "2", "--paths", "0"
    )
    d = dissect(planted().eval(), torch.eye(2))
    twin = d.delete_each(Error(labelled()))
    assert [row["value"] for row in results["lesions"][0]["without"]] == [row.value for row in twin]

    def loss(y):
        return torch.nn.functional.cross_entropy(y, torch.tensor([1, 0]), reduction="none")

    exact = d.path_gradients(loss, torch.eye(2))
    assert [row["gradient"] for row in results["path_gradients"]] == pytest.approx(exact.mean.tolist(), rel=1e-6)
    assert results["effective_depth"]["value"] == pytest.approx(exact.effective_depth().value, rel=1e-6)
    assert "sampled_paths" not in results


def test_the_same_seed_gives_the_same_numbers(capsys):
    first, again, other = (
        found(capsys, "mynets:with_batches", "--seed", seed, "--draws", "6", "--deletions", "1") for seed in "112"
    )
    for results in (first, again, other):
        results["provenance"] = None
    assert first == again
    assert first["deleted"] != other["deleted"]


def test_regression_targets_are_a_task(capsys):
    results = found(capsys, "mynets:towards")
    (loss,) = results["lesions"]
    # -1 and 1 where 1 and 0 are wanted: (4 + 1) / 2 of each example; without branch 0 the net is the identity.
    assert (loss["unit"], loss["intact"]) == ("squared error", 2.5)
    assert [row["change"] for row in loss["without"]] == [-2.5, 0.0]
    assert "No single branch is needed" in results["summary"]


def test_without_labels_the_output_is_compared_with_the_intact_one(capsys):
    results = found(capsys, "mynets:unlabelled")
    change, cosine = results["lesions"]
    assert (change["intact"], cosine["intact"]) == (0.0, 0.0)
    # (-1, 1) becomes (1, 0): moved by sqrt(5) of sqrt(2), and turned by an angle whose cosine is -1/sqrt(2)
    assert change["without"][0]["value"] == pytest.approx(math.sqrt(5 / 2), rel=1e-6)
    assert cosine["without"][0]["value"] == pytest.approx(1 + math.sqrt(1 / 2), rel=1e-6)
    assert change["without"][1]["value"] == 0.0
    assert "one random direction" in results["path_loss"]
    assert "predicted" not in results["rankings"][0]
    assert any("no first-order prediction" in note for note in results["notes"])


@pytest.mark.parametrize("function", ["model", "with_example"])
def test_without_data_only_the_structure_is_shown(capsys, function, empty_place):
    results = found(capsys, f"mynets:{function}")
    assert results["measured"] is False
    assert not {"lesions", "deleted", "reordered", "rankings", "path_gradients", "effective_depth"} & set(results)
    assert results["paths"]["shares"] == [0.25, 0.5, 0.25]
    assert ("random" in results["example"]) == (function == "model")
    assert left_behind(empty_place) == []  # JSON to the terminal was all that was asked for
    said = call(capsys, "dissect", f"mynets:{function}")
    assert "not which branches matter" in said.all
    page = (empty_place / "dissections" / f"mynets.{function}" / "dissection.html").read_text()
    assert "Where are the branches?" in page
    assert "matters most" not in page


def test_structure_only_leaves_data_alone(capsys):
    results = found(capsys, "mynets:with_batches", "--structure")
    assert results["measured"] is False


def test_a_chain_has_no_paths_and_says_so(capsys):
    results = found(capsys, "mynets:chain", "--draws", "2")
    assert [branch["kind"] for branch in results["branches"]] == ["module", "module"]
    assert "paths" not in results
    assert any("no shortcuts" in note for note in results["notes"])


def test_named_data_is_standardised_like_a_training_part(capsys, empty_place):
    (empty_place / "mynets.py").write_text(
        "import torch\nfrom torch import nn\nfrom thruway.nn import Residual\n"
        "def model():\n"
        "    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), Residual(nn.Linear(10, 10)))\n"
    )
    from thruway.data import load

    state = torch.get_rng_state()
    results = found(capsys, "mynets:model", "--data", "digits", "--examples", "100", "--batch", "30", "--draws", "2")
    import mynets

    net = mynets.model()
    torch.set_rng_state(state)
    test = load("digits", train=False, limit=100).standardised(*load("digits").moments())
    assert results["lesions"][0]["examples"] == 100
    output = net(test.images)
    wrong = (output.argmax(1) != test.labels).double().mean().item()
    assert results["lesions"][0]["intact"] == pytest.approx(wrong, abs=1e-12)  # a share of 100
    loss = torch.nn.functional.cross_entropy(output, test.labels).item()
    assert results["lesions"][1]["intact"] == pytest.approx(loss, rel=1e-5)  # float32, in other batches
    raw = found(capsys, "mynets:model", "--data", "digits", "--examples", "100", "--pixels", "raw", "--draws", "2")
    assert raw["lesions"][1]["intact"] != results["lesions"][1]["intact"]


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors", "pt"])
def test_inputs_from_a_file(capsys, empty_place, kind):
    inputs, targets = torch.cat([x for x, _ in labelled()]), torch.cat([y for _, y in labelled()])
    if kind == "npy":
        np.save("data.npy", inputs.numpy())
    elif kind == "npz":
        np.savez("data.npz", inputs=inputs.numpy(), targets=targets.numpy())
    elif kind == "safetensors":
        save_file({"inputs": inputs, "targets": targets}, "data.safetensors")
    else:
        torch.save({"input": inputs, "targets": targets}, "data.pt")  # the name of the model's argument
    results = found(capsys, "mynets:model", "--inputs", f"data.{kind}", "--batch", "3", "--draws", "2")
    changes = [row["change"] for row in results["lesions"][0]["without"]]
    if kind == "npy":
        assert results["lesions"][0]["metric"] == "output change"
        assert changes[0] == pytest.approx(math.sqrt(5 / 2), rel=1e-6)
    else:
        assert changes == [1.0, 0.0]


def test_weights_are_put_into_the_model(capsys):
    state = planted().state_dict()
    state["0.branch.weight"].zero_()  # now no branch does anything
    save_file(state, "own.safetensors")
    results = found(capsys, "mynets:with_batches", "--weights", "own.safetensors", "--draws", "2")
    assert results["lesions"][0]["intact"] == 1.0
    assert [row["change"] for row in results["lesions"][0]["without"]] == [0.0, 0.0]


@pytest.mark.parametrize("function", ["with_batches", "endless"])
def test_examples_are_a_limit(capsys, function):
    results = found(capsys, f"mynets:{function}", "--examples", "3", "--draws", "2")
    assert results["lesions"][0]["examples"] == 3


def test_numbers_of_any_width_are_read(capsys):
    """NumPy's own float64 and a file's int32 are not the user's concern."""
    inputs, targets = torch.cat([x for x, _ in labelled()]), torch.cat([y for _, y in labelled()])
    np.savez("wide.npz", inputs=inputs.double().numpy(), targets=targets.int().numpy())
    results = found(capsys, "mynets:model", "--inputs", "wide.npz", "--draws", "2")
    assert [row["change"] for row in results["lesions"][0]["without"]] == [1.0, 0.0]


@pytest.mark.parametrize("function", ["with_batches", "towards", "unlabelled"])
def test_paths_may_be_left_alone(capsys, function):
    results = found(capsys, f"mynets:{function}", "--path-examples", "0", "--draws", "2")
    assert "path_gradients" not in results
    assert any("--path-examples is 0" in note for note in results["notes"])


def test_a_loss_that_is_not_finite_is_reported(capsys):
    said = call(capsys, "dissect", "mynets:sick", "--draws", "2")
    assert said.code == 0, said.all
    assert "The loss of the intact model is not finite" in " ".join(said.all.split())


def test_a_net_without_branches_is_not_blamed_on_missing_data(capsys):
    results = found(capsys, "mynets:bare")
    assert results["summary"].startswith("No branches were found")
    assert "No data was given" not in results["summary"]


@pytest.mark.parametrize("options", [(), ("--structure",)])
def test_names_are_never_cut_short(capsys, options, monkeypatch):
    """A long one goes on in the next lines, alone in them."""
    monkeypatch.setenv("COLUMNS", "80")
    said = call(capsys, "dissect", "mynets:deep_inside", "--draws", "2", *options)
    lines = [line.split() for line in said.out.splitlines()]
    first = next(number for number, line in enumerate(lines) if line[:1] == ["0"])
    rest = itertools.takewhile(lambda line: len(line) == 1, lines[first + 1 :])
    name = lines[first][1] + "".join(piece for (piece,) in rest)
    assert name == "a_name_that_is_longer_than_a_line_of_a_narrow_console_has_room_for.0"


def test_splitting_loses_no_example():
    x = torch.arange(10)
    for at_once in (1, 3, 10, 99):
        for most in (1, 7, 99):
            pairs = batched({"x": x}, -x, at_once, most)
            assert torch.cat([inputs["x"] for inputs, _ in pairs]).tolist() == list(range(min(10, most)))
            assert all((inputs["x"] + targets == 0).all() for inputs, targets in pairs)
            assert all(len(inputs["x"]) <= at_once for inputs, _ in pairs)


@pytest.mark.parametrize("branches", [1, 2, 3, 9, 54, 1000])
def test_counts_of_branches_fit_the_net(branches):
    counts = default_counts(branches)
    assert counts[0] == 1
    assert list(counts) == sorted(set(counts))
    assert counts[-1] <= max(1, (branches + 1) // 2)


# --- what is written


def test_report_and_numbers_are_written_where_it_says(capsys, empty_place):
    said = call(capsys, "dissect", "mynets:with_batches", "--draws", "2", "--out", "mine", "--json", "more/mine.json")
    assert said.code == 0, said.all
    assert sorted(path.name for path in (empty_place / "mine").iterdir()) == ["dissection.html", "dissection.json"]
    text = (empty_place / "mine" / "dissection.json").read_text()
    assert (empty_place / "more" / "mine.json").read_text() == text
    for path in ("mine/dissection.html", "mine/dissection.json", "more/mine.json"):
        assert path in said.all
    assert "Branch 0 (0) matters most" in said.all
    assert "+1" in said.out


@pytest.mark.parametrize("older", ["dissection.html", "dissection.json"])
def test_an_older_report_is_not_replaced(capsys, empty_place, older):
    (empty_place / "mine").mkdir()
    (empty_place / "mine" / older).write_text("precious")
    said = call(capsys, "dissect", "mynets:model", "--out", "mine")
    assert said.code == 2
    assert "mine already contains a dissection. Choose another --out" in said.all
    assert [path.read_text() for path in (empty_place / "mine").iterdir()] == ["precious"]


def test_an_interruption_is_reported_and_leaves_nothing(capsys, empty_place, monkeypatch):
    from thruway.dissecting import Dissection

    def stopped(*_args, **_settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(Dissection, "delete", stopped)
    said = call(capsys, "dissect", "mynets:with_batches", "--out", "mine")
    assert said.code == 1
    assert "interrupted: no report was written" in said.err
    assert left_behind(empty_place) == []


@pytest.mark.parametrize("file", ["x.npy", "x.npz", "x.pt"])
def test_a_damaged_file_is_no_reason_to_trust_it(capsys, empty_place, file):
    (empty_place / file).write_text("nonsense")
    said = call(capsys, "dissect", "mynets:model", "--inputs", file)
    assert said.code == 2
    assert "file of numbers" in said.all or "is damaged" in said.all
    assert "allow_pickle" not in said.all


def test_folders_without_a_name_are_numbered(capsys, empty_place):
    for _ in range(2):
        assert call(capsys, "dissect", "mynets:model").code == 0
    assert sorted(path.name for path in (empty_place / "dissections").iterdir()) == ["mynets.model", "mynets.model-2"]


def test_json_to_the_output_is_all_there(capsys):
    said = call(capsys, "dissect", "mynets:with_batches", "--draws", "2", "--json", "-")
    assert json.loads(said.out)["schema"] == 1
    assert "leaving out each of 2 branches" in said.err


def test_every_key_is_explained(capsys):
    results = found(capsys, "mynets:with_batches", "--draws", "2")
    unexplained = {"schema", "name", "about", "example", "data", "summary", "provenance", "keys", "path_loss"}
    assert set(results) - set(results["keys"]) == unexplained


def test_help_shows_an_example_that_is_accepted(capsys):
    said = call(capsys, "dissect", "--help")
    assert said.code == 0
    lines = [line.strip() for line in said.out.splitlines() if line.strip().startswith("thruway dissect ")]
    assert len(lines) == 3
    mine = next(line for line in lines if "mypackage.models:resnet" in line).split()[3:]
    mine[mine.index("--data") + 1] = "digitz"  # so that it ends there
    assert "did you mean 'digits'" in call(capsys, "dissect", "mynets:model", *mine).all
    for flag in ("--net", "--text", "--inputs", "--structure", "--json", "--out", "--seed"):
        assert flag in said.out


# --- refusals: what is asked, and what is said

REFUSED = {
    "nothing there": (["nowhere"], 2, "there is no nowhere. Give a run folder"),
    "no module": (["nomodule:build"], 2, "there is no module 'nomodule'"),
    "no such part": (["mynets.deeper:build"], 2, "there is no module 'mynets.deeper'"),
    "no function": (["mynets:modle"], 2, "unknown function 'modle'; did you mean 'model'?"),
    "a folder": (["mynets/:model"], 2, "write package.module:name, as in an import, or path/to/file.py:name"),
    "a number": (["mynets:number"], 2, "is not a function, but of type int"),
    "it raises": (["mynets:raises"], 2, "mynets:raises failed: ValueError: the weights have gone (mynets.py, line"),
    "it leaves": (["mynets:leaves"], 2, "mynets:leaves failed: SystemExit: 3"),
    "no module came": (["mynets:text"], 2, "returned str, which is not a torch.nn.Module"),
    "too much came": (["mynets:four"], 2, "a tuple of 4"),
    "no pairs": (["mynets:bad_batches"], 2, "batch 0 of mynets:bad_batches is Tensor"),
    "batches that break off": (["mynets:breaks_off"], 2, "failed: OSError: the disk has gone (mynets.py, line"),
    "no iterable": (["mynets:no_iterable"], 2, "the batches of mynets:no_iterable are int"),
    "no numbers": (["mynets:without_numbers"], 2, "Linear cannot be put on 'cpu'"),
    "wants arguments": (["mynets:wants_more"], 2, "missing 1 required positional argument: 'size'. It is called"),
    "too large": (["mynets:model", "--shape", "999999999999"], 2, "do not fit into memory"),
    "json for a folder": (["mynets:model", "--json", "."], 2, "is a folder. Give a file"),
    "no batches": (["mynets:no_batches"], 2, "returned no batches"),
    "strange targets": (["mynets:strange_targets"], 2, "targets are str"),
    "too many classes": (["mynets:too_many_classes"], 2, "classes 0 to 7, but the model has 2 classes"),
    "an example of another form": (["mynets:fails_on_its_example"], 2, "cannot be run on the example returned with"),
    "no form": (["mynets:odd"], 2, "the input shape of Odd cannot be inferred"),
    "another form": (
        ["mynets:model", "--shape", "5"],
        2,
        "Sequential cannot be run on random numbers of the requested shape",
    ),
    "no data set": (["mynets:model", "--data", "digitz"], 2, "did you mean 'digits'?"),
    "data not here": (["mynets:model", "--data", "mnist", "--data-root", "x"], 1, "MNIST (test part) was not found"),
    "no file": (["mynets:model", "--inputs", "x.npy"], 2, "there is no file x.npy"),
    "no tensors": (["mynets:model", "--inputs", "mynets.py"], 2, "files of tensors end in .npy"),
    "no words": (["mynets:model", "--text", "mynets.py"], 2, "--text needs the tokenizer of a Hugging Face model"),
    "two data": (["mynets:model", "--data", "digits", "--text", "x"], 2, "--data and --text cannot be combined"),
    "no draws": (["mynets:model", "--draws", "0"], 2, "--draws must be at least 1, got 0"),
    "too many": (
        ["mynets:with_batches", "--deletions", "3"],
        2,
        "--deletions is up to 3, but only 2 branches were found",
    ),
    "fewer than none": (["mynets:model", "--deletions", "0"], 2, "each at least 1, got 0"),
    "no size": (["mynets:model", "--shape", "0"], 2, "--shape takes sizes of at least 1"),
    "no device": (["mynets:model", "--device", "gpu"], 2, "'gpu' is not available"),
    "weights of others": (["mynets:model", "--weights", "x.safetensors"], 2, "there is no file x.safetensors"),
    "weights for nothing": (["mynets.py", "--weights", "x.pt"], 2, "--weights are for the model of a function"),
    "a net of no run": (["mynets:model", "--net", "a"], 2, "--net selects a network of a run folder"),
    "no run": (["mynets.py"], 2, "is not in a run folder"),
    "a file for a folder": (["mynets:model", "--out", "mynets.py"], 1, "cannot write to mynets.py"),
    "json in a file": (["mynets:model", "--json", "mynets.py/x.json"], 1, "cannot write to mynets.py"),
    "an unknown option": (["mynets:model", "--datum", "digits"], 2, "--datum"),
    "no target": ([], 2, "no target was given. Give a run folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_errors_are_reported_and_nothing_is_left(capsys, case, empty_place):
    asked, code, answer = REFUSED[case]
    said = call(capsys, "dissect", *asked)
    assert answer.lower() in said.all.lower()
    assert said.code == code
    assert left_behind(empty_place) == []


def test_a_pickle_is_not_run(capsys, empty_place):
    torch.save(planted(), "net.pt")  # a whole model, which is code
    said = call(capsys, "dissect", "mynets:model", "--inputs", "net.pt")
    assert "holds objects that are not tensors" in said.all
    assert said.code == 2


def test_weights_that_do_not_fit_are_refused(capsys):
    save_file({"0.weight": torch.ones(1)}, "own.safetensors")
    said = call(capsys, "dissect", "mynets:model", "--weights", "own.safetensors")
    assert "own.safetensors does not fit Sequential: Missing key(s)" in said.all


def test_a_measurement_that_fails_leaves_nothing(capsys, empty_place, monkeypatch):
    from thruway.dissecting import Dissection

    def broken(*_args, **_settings):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Dissection, "path_gradients", broken)
    said = call(capsys, "dissect", "mynets:with_batches", "--draws", "2", "--out", "mine")
    assert said.code == 2
    assert "out of memory" in said.all
    assert left_behind(empty_place) == []
