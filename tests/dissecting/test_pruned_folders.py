"""Folders of smaller models: loaded as they were saved, in another process too, and hostile files refused."""

import json
import math
import subprocess
import sys

import pytest
import torch

import thruway as tw
from thruway.errors import CheckpointError, ConfigError
from thruway.networks import mlp, resnet

from .test_removal_from_decoders import DECODERS, IDS, cuts, decoder, step_by_step

transformers = pytest.importorskip("transformers")


def build():
    return resnet(20, classes=4, generator=torch.Generator().manual_seed(3)).eval()


def image(seed=0):
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("make", "x", "which"),
    [
        (build, image(), (1, 3, 4)),  # 3 has a projection
        (lambda: mlp("highway", 6, 8, inputs=5, classes=3, fused=True), torch.ones(2, 5), (0, 2)),
        (lambda: mlp("highway", 6, 8, inputs=5, classes=3), torch.ones(2, 5), (1, 2)),
    ],
)
def test_a_network_of_ones_own(make, x, which, tmp_path):
    small = tw.dissect(make(), x).remove(*which)
    twice = tw.dissect(small, x).remove(0)
    for number, model in enumerate((small, twice)):
        with torch.no_grad():
            for parameter in model.parameters():  # as after healing
                parameter += 0.1
        folder = tw.save_pruned(model, tmp_path / str(number))
        loaded = tw.load_pruned(folder, build=make)
        assert torch.equal(loaded(x), model(x))
        assert loaded.training == model.training
        assert loaded.state_dict().keys() == model.state_dict().keys()
    # What was loaded can be made smaller and saved again.
    assert tw.save_pruned(tw.dissect(loaded, x).remove(0), tmp_path / "again").is_dir()


@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_decoders_without_branches(name, tmp_path):
    _, d = decoder(name)
    for number, which in enumerate(cuts(d)):
        small = d.remove(which)
        loaded = tw.load_pruned(tw.save_pruned(small, tmp_path / str(number)))
        ours, expected = (model(input_ids=IDS, use_cache=False).logits for model in (loaded, small))
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)  # with another kernel of attention
        torch.testing.assert_close(step_by_step(loaded, IDS), expected, rtol=1e-4, atol=1e-4)
        assert sum(p.numel() for p in loaded.parameters()) == sum(p.numel() for p in small.parameters())
        is_whole = all(part in (tmp_path / str(number) / "README.md").read_text() for part in ("plain transformers",))
        assert (tmp_path / str(number) / "config.json").exists() == is_whole


def test_half_precision_and_a_fresh_process(tmp_path):
    _, d = decoder("Llama")
    small = d.remove(0, 3).to(torch.bfloat16)
    folder = tw.save_pruned(small, tmp_path / "small")
    with torch.no_grad():
        expected = float(small(input_ids=IDS).logits.double().sum())
    code = (
        "import sys, torch, thruway as tw; m = tw.load_pruned(sys.argv[1]); torch.set_grad_enabled(False); "
        f"print(float(m(input_ids=torch.tensor({IDS.tolist()})).logits.double().sum()), next(m.parameters()).dtype)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    value, dtype = done.stdout.split()[-2:]
    assert dtype == "torch.bfloat16"
    assert math.isclose(float(value), expected, rel_tol=1e-2, abs_tol=1.0)


def test_every_tensor_keeps_its_dtype(tmp_path):
    class Mixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp("residual", 4, 8, inputs=8, classes=8).to(torch.bfloat16)
            self.head = torch.nn.Linear(8, 3)
            self.register_buffer("turns", torch.polar(torch.ones(3), torch.arange(3.0)), persistent=False)

        def forward(self, x):
            return self.head(self.body(x.bfloat16()).float()) * self.turns.imag

    small = tw.dissect(Mixed(), torch.ones(2, 8)).remove(0)
    loaded = tw.load_pruned(tw.save_pruned(small, tmp_path / "small"), build=Mixed)
    x = torch.randn(5, 8)
    assert torch.equal(loaded(x), small(x))
    assert loaded.turns.dtype == torch.complex64
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16, torch.float32}


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(ConfigError, match="no branches have been removed"):
        tw.save_pruned(build(), tmp_path / "full")
    small = tw.dissect(build(), image()).remove(1)
    tw.save_pruned(small, tmp_path / "small")
    with pytest.raises(ConfigError, match="exists already"):
        tw.save_pruned(small, tmp_path / "small")
    with pytest.raises(ConfigError, match=r"Pass a function that builds it"):
        tw.load_pruned(tmp_path / "small")
    with pytest.raises(CheckpointError, match="was not written by save_pruned"):
        tw.load_pruned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small"]


def test_a_failed_save_leaves_nothing(tmp_path, monkeypatch):
    small = tw.dissect(build(), image()).remove(1)

    def fail(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr("safetensors.torch.save_model", fail)
    with pytest.raises(OSError, match="no space"):
        tw.save_pruned(small, tmp_path / "small")
    assert list(tmp_path.iterdir()) == []


def put(data, *path, value):
    *above, last = path
    for key in above:
        data = data[key]
    data[last] = value


HOSTILE = {
    "another architecture": (("config", "architectures"), ["Trainer"], ConfigError),
    "no architecture": (("config", "architectures"), None, ConfigError),
    "huge sizes": (("config", "hidden_size"), 2**40, (ConfigError, CheckpointError)),
    "many layers": (("config", "num_hidden_layers"), 10**9, ConfigError),
    "a config of another kind": (("config",), [1], CheckpointError),
    "a path that does not exist": (("removals", 0, "emptied"), ["model.nothing.weight"], ConfigError),
    "a path upwards": (("removals", 0, "emptied"), ["../../etc/passwd"], ConfigError),
    "names that are numbers": (("removals", 0, "branches"), [1], ConfigError),
    "negative places": (("removals", 0, "kept", "model.layers", "places"), [-1], ConfigError),
    "places beyond the end": (("removals", 0, "kept", "model.layers", "places"), [7], ConfigError),
    "huge places": (("removals", 0, "kept", "model.layers", "places"), list(range(200_000)), ConfigError),
    "another container": (("removals", 0, "kept"), {"model": {"places": [], "of": 0}}, ConfigError),
    "code in a stand-in": (
        ("removals", 0, "replaced"),
        {"model.norm": {"output": {"eval": "1"}, "layer": None}},
        ConfigError,
    ),
    "a huge stand-in": (
        ("removals", 0, "replaced"),
        {"model.norm": {"output": {"shape": [2**60], "dtype": "float32"}, "layer": None, "value": "0.0"}},
        ConfigError,
    ),
    "another value": (
        ("removals", 0, "replaced"),
        {"model.norm": {"output": {"shape": [1], "dtype": "float32"}, "layer": None, "value": "__import__('os')"}},
        ConfigError,
    ),
    "another format": (("format",), 99, CheckpointError),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_recipes_are_refused(name, tmp_path):
    _, d = decoder("Llama")
    folder = tw.save_pruned(d.remove(0, 2, 3), tmp_path / "small")  # an attention, and a whole layer
    path, value, error = HOSTILE[name]
    data = json.loads((folder / "thruway_removals.json").read_text())
    put(data, *path, value=value)
    (folder / "thruway_removals.json").write_text(json.dumps(data))
    with pytest.raises(error):
        tw.load_pruned(folder)


def test_damaged_files_are_refused(tmp_path):
    folder = tw.save_pruned(tw.dissect(build(), image()).remove(1), tmp_path / "small")
    weights, recipe = folder / "model.safetensors", folder / "thruway_removals.json"
    full, text = weights.read_bytes(), recipe.read_text()
    for content in (full[:-8], full[: len(full) // 2], b"", b"x" * 100):
        weights.write_bytes(content)
        with pytest.raises(CheckpointError):
            tw.load_pruned(folder, build=build)
    weights.write_bytes(full)
    for content in (text[:-5], "", "[]", "[" * 10_000, "{}"):
        recipe.write_text(content)
        with pytest.raises(CheckpointError):
            tw.load_pruned(folder, build=build)
    recipe.write_text(text)
    with pytest.raises((CheckpointError, ConfigError)):
        tw.load_pruned(folder, build=lambda: resnet(32, classes=4))
    assert tw.load_pruned(folder, build=build) is not None
