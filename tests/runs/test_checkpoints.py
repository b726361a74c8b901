"""Checkpoints: exact contents, atomic saves, detection of damage, and loading without running code."""

import hashlib
import io
import json
import os
import pickle
import random
import shutil
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from run_cases import Child, kill_at, make_run
from torch import Tensor, nn

from thruway.errors import CheckpointError, RunError
from thruway.runs import Run, checkpoints, open_run
from thruway.runs.files import read_json_with_checksum, write_json_with_checksum


def bits(tensor: Tensor) -> list[int]:
    return tensor.contiguous().view(-1).view(torch.uint8).tolist()


DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_are_restored_bit_for_bit(run: Run, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 2 if dtype is torch.bool else 256, (96,), dtype=torch.uint8, generator=generator)
    tensors = {
        "any bits": raw.view(dtype),
        "empty": torch.empty(0, 3, dtype=dtype),
        "scalar": torch.ones((), dtype=dtype),
    }
    run.save("a", tensors)
    loaded = run.load("a").tensors
    assert {name: (t.dtype, t.shape, bits(t)) for name, t in loaded.items()} == {
        name: (t.dtype, t.shape, bits(t)) for name, t in tensors.items()
    }


def test_training_resumes_exactly(run: Run) -> None:
    def step(model: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator) -> None:
        optimizer.zero_grad()
        model(torch.randn(8, 4, generator=generator)).square().mean().backward()
        optimizer.step()

    def fresh() -> tuple[nn.Linear, torch.optim.Optimizer, torch.Generator]:
        model = nn.Linear(4, 4)
        nn.init.eye_(model.weight)
        nn.init.zeros_(model.bias)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        return model, optimizer, torch.Generator().manual_seed(0)

    model, optimizer, generator = fresh()
    for _ in range(3):
        step(model, optimizer, generator)
    state = {"optimizer": optimizer.state_dict(), "generator": generator.get_state(), "step": 3}
    run.save("latest", model.state_dict(), state=state)
    step(model, optimizer, generator)

    again, other_optimizer, other_generator = fresh()
    checkpoint = open_run(run.folder).load("latest")
    assert checkpoint.state is not None
    again.load_state_dict(checkpoint.tensors)
    other_optimizer.load_state_dict(checkpoint.state["optimizer"])
    other_generator.set_state(checkpoint.state["generator"])
    step(again, other_optimizer, other_generator)
    assert checkpoint.state["step"] == 3
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_tied_strided_and_sliced_tensors_are_saved_by_value(run: Run) -> None:
    stack = torch.arange(24.0).view(2, 3, 4)
    tensors = {"whole": stack, "tied": stack, "slice": stack[1], "turned": stack[0].T, "every other": stack[0, :, ::2]}
    run.save("a", tensors)
    loaded = run.load("a").tensors
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_names_are_sorted_oldest_first(run: Run) -> None:
    for name in ("b", "c", "a", "b"):
        run.save(name, {"w": torch.ones(1)})
    assert run.checkpoints() == ["c", "a", "b"]
    assert open_run(run.folder).checkpoints() == ["c", "a", "b"]


def test_a_save_flushes_logged_values(run: Run) -> None:
    run.log(0, {"loss": 1.0})
    run.save("a", {"w": torch.ones(1)})
    assert open_run(run.folder).table()["value"].tolist() == [1.0]


def test_a_save_without_state_removes_the_old_state(run: Run) -> None:
    run.save("a", {"w": torch.ones(1)}, state={"step": 1})
    run.save("a", {"w": torch.ones(1)})
    assert run.load("a").state is None
    assert not (run.folder / "checkpoints" / "a.state.pt").exists()


def test_file_permissions_follow_the_umask(run: Run) -> None:
    run.save("a", {"w": torch.ones(1)}, state={"step": 1})
    modes = {path.stat().st_mode for path in (run.folder / "checkpoints").glob("a.*")}
    assert modes == {(run.folder / "run.json").stat().st_mode}


def version(number: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return {"w": torch.full((1000,), float(number))}, {"step": number}


def seen(folder: Path) -> int:
    """Return the version that a reader loads; a warning would be an error."""
    checkpoint = open_run(folder).load("latest")
    (number,) = set(checkpoint.tensors["w"].tolist())
    assert checkpoint.state == {"step": number}
    return int(number)


@pytest.mark.parametrize("before", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_save_killed_at_any_moment_leaves_the_old_or_the_new_version(tmp_path: Path, before: int) -> None:
    found = []
    for count in range(200):
        folder = tmp_path / str(count)
        run = make_run(folder)
        for number in range(before):
            tensors, state = version(number)
            run.save("latest", tensors, state=state)

        def work(tell: object, run: Run = run, count: int = count) -> None:
            run._process = os.getpid()  # as if the child process had opened the run
            tensors, state = version(before)
            kill_at(count)
            run.save("latest", tensors, state=state)

        finished = Child(work).wait() == 0
        found.append(seen(folder))
        tensors, state = version(before + 1)
        run.save("latest", tensors, state=state)
        assert seen(folder) == before + 1
        run.close()
        if finished:
            break
    assert finished
    assert found == sorted(found)
    assert set(found) == {before - 1, before}
    assert len(found) > 8  # number of points at which the process was killed


def test_a_first_save_killed_at_any_moment_is_absent_or_complete(tmp_path: Path) -> None:
    for count in range(200):
        run = make_run(tmp_path / str(count))

        def work(tell: object, run: Run = run, count: int = count) -> None:
            run._process = os.getpid()
            tensors, state = version(0)
            kill_at(count)
            run.save("latest", tensors, state=state)

        finished = Child(work).wait() == 0
        assert run.checkpoints() in ([], ["latest"])
        if run.checkpoints():
            assert seen(run.folder) == 0
        run.close()
        if finished:
            break
    assert run.checkpoints() == ["latest"]
    assert count > 5


def save_until_killed(folder: Path) -> Callable[[Callable[[object], None]], None]:
    def work(tell: Callable[[object], None]) -> None:
        run = make_run(folder)
        for number in range(1_000_000):
            tensors, state = version(number)
            run.save("latest", tensors, state=state)
            tell(number)

    return work


def assert_a_killed_process_leaves_a_checkpoint(folder: Path, delay: float) -> None:
    child = Child(save_until_killed(folder))
    lines = child.lines()
    sent = [next(lines)]
    time.sleep(delay)
    child.kill()
    sent += lines
    child.wait()
    assert seen(folder) in (len(sent) - 1, len(sent))


def test_a_process_killed_at_random_leaves_a_checkpoint(tmp_path: Path) -> None:
    rng = random.Random(0)
    for trial in range(5):
        assert_a_killed_process_leaves_a_checkpoint(tmp_path / str(trial), rng.uniform(0, 0.05))


@pytest.mark.slow
def test_a_hundred_processes_killed_at_random_leave_checkpoints(tmp_path: Path) -> None:
    rng = random.Random(1)
    for trial in range(100):
        assert_a_killed_process_leaves_a_checkpoint(tmp_path / str(trial), rng.uniform(0, 0.05))


def test_a_concurrent_reader_sees_complete_versions(tmp_path: Path) -> None:
    child = Child(save_until_killed(tmp_path / "run"))
    lines = child.lines()
    next(lines)
    try:
        found, until = [seen(tmp_path / "run")], time.monotonic() + 30  # a busy machine may take long for one save
        while (len(found) < 40 or found[-1] == found[0]) and time.monotonic() < until:
            found.append(seen(tmp_path / "run"))
    finally:
        child.kill()
        child.wait()
        lines.close()
    assert found == sorted(found)
    assert found[-1] > found[0]


@pytest.fixture
def two_versions(tmp_path: Path) -> Path:
    with make_run(tmp_path / "run") as run:
        for number in range(2):
            tensors, state = version(number)
            run.save("latest", tensors, state=state)
    return run.folder


FILES = ["latest.safetensors", "latest.state.pt", "latest.json"]


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_checkpoint_falls_back_to_the_previous_save_with_a_warning(two_versions: Path, file: str) -> None:
    path = two_versions / "checkpoints" / file
    clean = path.read_bytes()
    rng = random.Random(4)
    damaged = [clean[: len(clean) // 2], b"", clean + b"x", bytes(len(clean))]
    for _ in range(8):
        place = rng.randrange(len(clean))
        damaged.append(clean[:place] + bytes([clean[place] ^ 1 << rng.randrange(8)]) + clean[place + 1 :])
    for contents in damaged:
        path.write_bytes(contents)
        if file.endswith("json") and same_json(contents, clean):
            continue
        with pytest.warns(RuntimeWarning, match=f"latest.* is damaged: .*{file}.*Loaded the previous save"):
            checkpoint = open_run(two_versions).load("latest")
        assert checkpoint.state == {"step": 0}
        assert checkpoint.tensors["w"].tolist() == [0.0] * 1000


def same_json(contents: bytes, clean: bytes) -> bool:
    try:
        return bool(json.loads(contents) == json.loads(clean))
    except ValueError:
        return False


def test_if_both_saves_are_damaged_the_error_names_both(two_versions: Path) -> None:
    for folder in ("checkpoints", "checkpoints/previous"):
        (two_versions / folder / "latest.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"has 1 bytes instead of .*; the previous save: .*previous"):
        open_run(two_versions).load("latest")


def test_a_save_over_a_damaged_one_keeps_the_last_intact_one(two_versions: Path) -> None:
    (two_versions / "checkpoints" / "latest.safetensors").write_bytes(b"x")
    with Run.resume(two_versions) as run:
        tensors, state = version(2)
        run.save("latest", tensors, state=state)
    previous = two_versions / "checkpoints" / "previous" / "latest.safetensors"
    assert safetensors.torch.load_file(previous)["w"][0] == 0
    assert seen(two_versions) == 2


def test_an_unknown_name_lists_the_known_names(two_versions: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint 'best'\. Available checkpoints: latest"):
        open_run(two_versions).load("best")


def test_a_failed_save_raises_and_keeps_the_old_version(two_versions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for function in ("fsync", "replace"):
        with Run.resume(two_versions) as run:
            tensors, state = version(2)
            monkeypatch.setattr(os, function, full)
            with pytest.raises(CheckpointError, match=r"not saved.*No space left"):
                save_without_flush(run, tensors, state)
            monkeypatch.undo()
        assert seen(two_versions) == 1
        assert not list((two_versions / "checkpoints").glob(".tmp*"))


def save_without_flush(run: Run, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    checkpoints.save_checkpoint(run.folder, "latest", tensors, state)


def test_without_hard_links_the_previous_save_is_a_copy(two_versions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with Run.resume(two_versions) as run:
        tensors, state = version(2)
        run.save("latest", tensors, state=state)
    (two_versions / "checkpoints" / "latest.safetensors").unlink()
    with pytest.warns(RuntimeWarning, match="is missing"):
        assert open_run(two_versions).load("latest").state == {"step": 1}


class Odd:
    """An object that cannot be loaded without running code."""


UNSAVEABLE = {
    "object": (dict(state={"schedule": Odd()}), r"test_checkpoints\.Odd, which could not be loaded again"),
    "function": (dict(state={"schedule": lambda step: step}), "could not be loaded again"),
    "number": (dict(tensors={"w": 1.0}), "'w' is a float"),
    "sparse": (dict(tensors={"w": torch.eye(2).to_sparse()}), "sparse_coo"),
    "meta": (dict(tensors={"w": torch.empty(2, device="meta")}), "on meta"),
}


@pytest.mark.parametrize(("arguments", "message"), UNSAVEABLE.values(), ids=UNSAVEABLE)
def test_state_that_could_not_be_loaded_again_is_not_saved(run: Run, arguments: dict[str, Any], message: str) -> None:
    run.save("latest", *version(0)[:1], state={"step": 0})
    with pytest.raises(CheckpointError, match=message):
        run.save("latest", **{"tensors": {"w": torch.ones(1)}, **arguments})
    assert seen(run.folder) == 0
    assert sorted(path.name for path in (run.folder / "checkpoints").iterdir()) == sorted([*FILES, "previous"])


class Bomb:
    """Creates a folder when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


def torch_file(contents: object) -> bytes:
    stream = io.BytesIO()
    torch.save(contents, stream)
    return stream.getvalue()


def squeezed(archive: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.namelist():
            new.writestr(entry, old.read(entry))
    return stream.getvalue()


def legacy(contents: object) -> bytes:
    stream = io.BytesIO()
    torch.save(contents, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


HOSTILE: dict[str, tuple[str, Callable[[Bomb], bytes]]] = {
    "pickle as tensors": ("tensors", pickle.dumps),
    "torch archive as tensors": ("tensors", lambda bomb: torch_file({"w": bomb})),
    "huge header": ("tensors", lambda bomb: (1 << 62).to_bytes(8, "little") + b"{}"),
    "tensor beyond the file": (
        "tensors",
        lambda bomb: (
            (body := b'{"w":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}')
            and len(body).to_bytes(8, "little") + body
        ),
    ),
    "bomb in state": ("state", lambda bomb: torch_file({"step": bomb})),
    "bare pickle as state": ("state", pickle.dumps),
    "legacy archive": ("state", lambda bomb: legacy({"step": bomb})),
    "compressed archive": ("state", lambda bomb: squeezed(torch_file({"w": torch.zeros(1 << 16)}))),
    "not a dict": ("state", lambda bomb: torch_file([1, 2])),
    "no archive": ("state", lambda bomb: b"PK\x03\x04" + bytes(100)),
}


@pytest.mark.parametrize(("part", "make"), HOSTILE.values(), ids=HOSTILE)
def test_loading_runs_no_code(two_versions: Path, tmp_path: Path, part: str, make: Callable[[Bomb], bytes]) -> None:
    canary = tmp_path / "canary"
    folder = two_versions / "checkpoints"
    path = folder / ("latest" + checkpoints.SUFFIXES[part])
    contents = make(Bomb(canary))
    path.write_bytes(contents)
    # An attacker can also write the matching hash.
    record = read_json_with_checksum(folder / "latest.json", newest=1)
    record["files"][part] = {"bytes": len(contents), "sha256": hashlib.sha256(contents).hexdigest()}
    write_json_with_checksum(folder / "latest.json", record)
    shutil.rmtree(folder / "previous")
    with pytest.raises(CheckpointError, match="cannot be loaded") as caught:
        open_run(two_versions).load("latest")
    assert str(path) in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert not canary.exists()


def test_the_bomb_works_with_unsafe_loading(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "canary")))
    torch.load(io.BytesIO(torch_file(Bomb(tmp_path / "second"))), weights_only=False)
    assert (tmp_path / "canary").exists()
    assert (tmp_path / "second").exists()


def test_a_json_cannot_refer_to_other_files(two_versions: Path) -> None:
    folder = two_versions / "checkpoints"
    record = read_json_with_checksum(folder / "latest.json", newest=1)
    write_json_with_checksum(folder / "latest.json", record | {"name": "../../other"})
    with pytest.warns(RuntimeWarning, match="does not describe checkpoint 'latest'"):
        assert open_run(two_versions).load("latest").state == {"step": 0}
    (folder / "latest.safetensors").unlink()
    (folder / "latest.safetensors").symlink_to(folder / "previous" / "latest.safetensors")
    write_json_with_checksum(folder / "latest.json", record)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert open_run(two_versions).load("latest").state == {"step": 0}
    assert "symbolic link" in str(caught[0].message)


def test_a_checkpoint_with_a_later_format_is_refused(two_versions: Path) -> None:
    shutil.rmtree(two_versions / "checkpoints" / "previous")
    path = two_versions / "checkpoints" / "latest.json"
    write_json_with_checksum(path, read_json_with_checksum(path, newest=1) | {"format": 2})
    with pytest.raises(RunError, match="Install the newer Thruway"):
        open_run(two_versions).load("latest")


def test_a_file_replaced_during_loading_is_read_again(two_versions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = checkpoints.READERS["tensors"]
    calls = []

    def replaced(path: Path) -> Any:
        calls.append(path)
        if len(calls) == 1:
            os.utime(path, (1, 1))
        return real(path)

    monkeypatch.setitem(checkpoints.READERS, "tensors", replaced)
    assert seen(two_versions) == 1  # from the second attempt; the first result was discarded
    assert len(calls) > 1
