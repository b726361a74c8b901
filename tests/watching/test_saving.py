"""Saved traces: complete, refused when damaged, and never executed."""

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from thruway.errors import ConfigError, RunError
from thruway.runs import Run, Table, open_run
from thruway.watching import DEFAULT, LossNode, Quantity, Trace, trace_of, watch
from thruway.watching.quantities.collector import Measured
from thruway.watching.sites import KINDS, Registry, Site
from thruway.watching.trace import saving as saving_module


def quantity(name: str, unit: str = "") -> Quantity:
    return Quantity(name, unit, lambda rows: rows.mean)


def entered(registry: Registry, site: Site) -> Site:
    site.order = len(registry.sites)
    registry.sites[site.key] = site
    return site


@st.composite
def traces(draw: st.DrawFn, may_probe: bool = True) -> Trace:
    """Any trace: steps laid out differently, numbers of every kind, names of every kind."""
    registry = Registry()
    names = draw(st.lists(st.text(max_size=8), min_size=1, max_size=4, unique=True))
    for name in names:
        for kind in draw(st.sets(st.sampled_from(KINDS), min_size=1, max_size=3)):
            shape = tuple(draw(st.lists(st.integers(0, 9), max_size=3)))
            activation = draw(st.sampled_from([None, "relu"]))
            entered(
                registry,
                Site(
                    name,
                    kind,
                    draw(st.text(max_size=4)),
                    activation,
                    shape=shape,
                    gate_role=draw(st.sampled_from([None, "carry", "forget"])),
                ),
            )
    sites = list(registry.sites.values())
    registry.branches[names[0]] = (names[-1], names[0])
    trace = Trace(draw(st.text(max_size=5)), registry, None, 1 << 20)
    trace.optimizer = draw(st.sampled_from(["", "SGD"]))
    if draw(st.booleans()):
        trace.loss_graph = (LossNode("MeanBackward0", (), None, (1,)), LossNode("ReluBackward0", (2, 3), names[0]))
    for step in sorted(draw(st.sets(st.integers(0, 2**40), max_size=5))):
        measured = []
        for name in draw(
            st.lists(st.sampled_from(["mean", "std", "nan", "mine"]), min_size=1, max_size=3, unique=True)
        ):
            at = tuple(draw(st.lists(st.sampled_from(sites), min_size=1, max_size=3, unique_by=id)))
            dtype = draw(st.sampled_from([np.float32, np.float64]))
            length = draw(st.sampled_from([(), (), (3,)]))
            values = draw(
                st.lists(
                    st.floats(width=32),
                    min_size=len(at) * int(np.prod(length)),
                    max_size=len(at) * int(np.prod(length)),
                )
            )
            if name == "nan":  # a count
                values, length = [1.0] * len(at), ()
            array = np.array(values, dtype).reshape(len(at), *length)
            measured.append(Measured(quantity(name, draw(st.text(max_size=3))), at, 7, array))
        trace.add(step, measured)
    if draw(st.booleans()):
        trace.failure = ValueError(draw(st.text(max_size=5)))
    if may_probe and draw(st.booleans()):
        trace.probe = draw(traces(may_probe=False))
    return trace


def described(site: Site) -> tuple[Any, ...]:
    kind = site.kind, site.operation, site.activation, site.is_gate, site.gate_role
    return site.name, *kind, site.unit_dim, site.order, site.shape


def contents(trace: Trace) -> list[Any]:
    """Everything that can be read from a trace, numbers as their bits."""
    bad = trace.first_bad
    table = trace.table()
    known: list[Any] = [
        trace.model,
        trace.kept_every,
        trace.units,
        trace.steps,
        trace.branches,
        trace.optimizer,
        trace.loss_graph,
        [described(site) for site in trace.sites],
        None if bad is None else (bad.step, described(bad.site), bad.nan, bad.inf),
        {column: table[column].tolist() for column in ("step", "kind", "site", "quantity")},
        table["value"].dtype,
        table["value"].tobytes(),
    ]
    for kind in KINDS:
        for name in trace.array_quantities(kind):
            series = trace.arrays(name, kind)
            known.append((name, [described(site) for site in series.sites], series.steps, series.values.tobytes()))
    return [*known, None if trace.probe is None else contents(trace.probe)]


# Hypothesis writes over one file; every example is whole in itself.
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trace=traces())
def test_what_is_loaded_is_what_was_saved(trace: Trace, tmp_path: Path) -> None:
    path = trace.save(tmp_path / "trace.npz")
    loaded = Trace.load(path)
    assert repr(contents(loaded)) == repr(contents(trace))  # as text: NaN is not equal to itself
    if trace.failure is not None:
        assert str(loaded.failure) == f"ValueError: {trace.failure}"
    again = loaded.save(tmp_path / "again.npz")
    assert again.read_bytes() == path.read_bytes()


def trained(steps: int = 6, **options: Any) -> Trace:
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(generator=generator)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with watch(net, optimizer=optimizer, probe=torch.ones(2, 3), **options) as trace:
        for step in range(steps):
            x = torch.randn(5, 3, generator=generator)
            if step == 4:
                x[0, 0] = torch.nan
            net(x).square().mean().backward()
            if step == 4:
                net.zero_grad()
            optimizer.step()
            optimizer.zero_grad()
    return trace


@pytest.fixture(scope="module")
def trace() -> Trace:
    return trained(quantities=[*DEFAULT, "histogram"])


def test_a_training_is_kept_with_its_histograms_and_its_probe(trace: Trace, tmp_path: Path) -> None:
    loaded = Trace.load(trace.save(tmp_path / "deep" / "trace.npz"))
    assert repr(contents(loaded)) == repr(contents(trace))
    assert loaded.probe is not None
    assert loaded.first_bad is not None
    assert loaded.first_bad.step == 4
    assert np.array_equal(loaded.histograms().counts, trace.histograms().counts)
    assert repr(loaded) == repr(trace)


def test_a_trace_saved_within_the_block_has_the_last_step_too(tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    with watch(net) as trace:
        for _ in range(3):
            net(torch.ones(1, 2)).sum().backward()
        assert Trace.load(trace.save(tmp_path / "trace.npz")).steps == [0, 1, 2]


def test_numpy_reads_the_file(trace: Trace, tmp_path: Path) -> None:
    with np.load(trace.save(tmp_path / "trace.npz")) as members:  # NumPy refuses pickles by default
        assert members["steps"].tolist() == trace.steps
        assert json.loads(members["header"].tobytes())["format"] == saving_module.FORMAT


def test_a_file_from_before_shapes_and_losses_is_read(trace: Trace, tmp_path: Path) -> None:
    path = trace.save(tmp_path / "trace.npz")
    with np.load(path) as members:
        header = json.loads(members["header"].tobytes())
    header["format"] = 1
    for part in (header["trace"], header["trace"]["probe"]):
        for added in ("shapes", "optimizer", "loss_graph"):
            del part[added]
    old = Trace.load(
        rewritten(path.read_bytes(), tmp_path / "old.npz", {"header.npy": as_npy(json.dumps(header), tmp_path)})
    )
    assert old.table()["value"].tobytes() == trace.table()["value"].tobytes()
    assert {site.shape for site in old.sites} == {()}
    assert (old.optimizer, old.loss_graph) == ("", ())


def test_older_versions_can_read_a_trace_without_the_new_kinds_of_sites(tmp_path: Path) -> None:
    registry = Registry()
    site = registry.add(Site("0", "output", "Linear", shape=(5, 3)))
    trace = Trace("Net", registry, None, 1 << 20)
    trace.add(0, [Measured(quantity("mean"), (site,), 15, np.ones(1))])
    formats = []
    for _ in range(2):
        with np.load(trace.save(tmp_path / "trace.npz")) as members:
            formats.append(json.loads(members["header"].tobytes())["format"])
        assert Trace.load(tmp_path / "trace.npz").sites[0].shape == (5, 3)
        trace.add(1, [Measured(quantity("loss"), (registry.step("loss"),), 1, np.ones(1))])
    assert formats == [1, 2]


# --- what is not whole is refused


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """A small file and its members."""
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with watch(net, quantities=["mean", "nan"]) as trace:
        net(torch.ones(1, 2)).sum().backward()
    return trace.save(tmp_path_factory.mktemp("small") / "t.npz").read_bytes(), repr(contents(trace))


def is_refused(content: bytes, known: str, path: Path) -> bool:
    """A damaged file is refused, or the damage is where nothing lies: then all of it is still right."""
    path.write_bytes(content)
    try:
        loaded = Trace.load(path)
    except RunError:
        return True
    assert repr(contents(loaded)) == known
    return False


@pytest.mark.parametrize("flip", [0xFF, 0x01, 0x08], ids=["all bits", "lowest bit", "fourth bit"])
def test_no_flipped_byte_is_believed(small: tuple[bytes, str], tmp_path: Path, flip: int) -> None:
    content, known = small
    refused = 0
    # The archive's own records at the end are looked at more closely.
    places = [*range(0, len(content), 59), *range(content.index(b"PK\x01\x02"), len(content), 11)]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= flip
        refused += is_refused(bytes(damaged), known, tmp_path / "t.npz")
    assert refused > len(places) / 2


def test_no_torn_file_is_believed(small: tuple[bytes, str], tmp_path: Path) -> None:
    content, known = small
    for length in range(0, len(content) - 1, 401):
        assert is_refused(content[:length], known, tmp_path / "t.npz")


class Canary:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("the file was run",))


def rewritten(content: bytes, path: Path, change: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """The archive with some of its members replaced."""
    source = path.with_suffix(".source")
    source.write_bytes(content)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change.get(name, old.read(name)))
    return path


def as_npy(text: str, tmp_path: Path) -> bytes:
    np.save(tmp_path / "header.npy", np.frombuffer(text.encode(), np.uint8))
    return (tmp_path / "header.npy").read_bytes()


def test_what_is_no_trace_is_refused(small: tuple[bytes, str], tmp_path: Path) -> None:
    path = tmp_path / "trace.npz"
    with pytest.raises(RunError, match=r"cannot be read: .*Pass a file written by Trace\.save"):
        Trace.load(path)
    with pytest.raises(RunError, match="cannot be read"):
        Trace.load(tmp_path)
    path.write_text("step,value")
    with pytest.raises(RunError, match=r"is damaged or not a trace .*not a zip file"):
        Trace.load(path)
    np.savez(path, weights=np.ones(3))
    with pytest.raises(RunError, match="is damaged or not a trace"):
        Trace.load(path)
    with pytest.raises(
        RunError, match="compressed, which members of a trace are not"
    ):  # a small file that grows when it is read
        Trace.load(rewritten(small[0], path, {}, zipfile.ZIP_DEFLATED))


def test_a_later_format_is_refused(small: tuple[bytes, str], tmp_path: Path) -> None:
    header = as_npy('{"format": 3}', tmp_path)
    with pytest.raises(RunError, match=r"format 3, and this Thruway reads up to 2. Install the newer"):
        Trace.load(rewritten(small[0], tmp_path / "t.npz", {"header.npy": header}))


def test_nothing_in_a_file_is_run(small: tuple[bytes, str], tmp_path: Path) -> None:
    np.save(tmp_path / "steps.npy", np.array([Canary()], dtype=object), allow_pickle=True)
    path = rewritten(small[0], tmp_path / "t.npz", {"steps.npy": (tmp_path / "steps.npy").read_bytes()})
    with pytest.raises(RunError, match=r"steps.npy does not hold the \(1,\) numbers"):
        Trace.load(path)
    path = rewritten(small[0], tmp_path / "t.npz", {"header.npy": pickle.dumps(Canary())})
    with pytest.raises(RunError, match="is damaged"):
        Trace.load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.pop("sites"),
        lambda header: header["sites"].pop(),
        lambda header: header["sites"][0].__setitem__(1, "kitchen"),
        lambda header: header["layouts"][0][0][1].pop(),
        lambda header: header["blocks"].clear(),
        lambda header: header.__setitem__("first_bad", [0, 9999, 1, 1]),
        lambda header: header.__setitem__("branches", {"a": ["b"]}),
    ],
    ids=["no sites", "too few sites", "unknown kind", "narrow layout", "no blocks", "no such site", "half a branch"],
)
def test_a_header_that_does_not_fit_is_refused(small: tuple[bytes, str], tmp_path: Path, change: Any) -> None:
    source = tmp_path / "whole.npz"
    source.write_bytes(small[0])
    with np.load(source) as members:
        header = json.loads(members["header"].tobytes())
    change(header["trace"])
    path = rewritten(small[0], tmp_path / "t.npz", {"header.npy": as_npy(json.dumps(header), tmp_path)})
    with pytest.raises(RunError, match="is damaged"):
        Trace.load(path)


# --- a file appears whole or not at all


def test_a_disk_that_fails_leaves_the_older_file(trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = trace.save(tmp_path / "trace.npz")
    before = path.read_bytes()
    written = []

    def fail_later(file: Any, array: Any, allow_pickle: bool) -> None:
        written.append(array)
        if len(written) > 3:
            raise OSError("no space left on device")

    monkeypatch.setattr(saving_module.npy, "write_array", fail_later)
    with pytest.raises(RunError, match=r"cannot write .*no space left.*Choose a writable folder"):
        trace.save(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["trace.npz"]


# --- from a run folder


def new_run(folder: Path) -> Run:
    return Run.create(folder, {}, name="watched", command=["python"], seeds={}, device="cpu")


def as_rows(table: Table) -> dict[tuple[Any, ...], float]:
    return {(row["step"], row["kind"], row["site"], row["quantity"]): row["value"] for row in table.rows()}


def test_a_run_folder_gives_the_trace_back(tmp_path: Path) -> None:
    with new_run(tmp_path / "run") as run:
        trace = trained(run=run)
        run.log(3, {"loss": 1.0})  # other quantities are ignored
    read = trace_of(open_run(tmp_path / "run"))
    assert read.steps == trace.steps
    assert repr(as_rows(read.table())) == repr({key: as_rows(trace.table())[key] for key in as_rows(read.table())})
    assert set(as_rows(read.table())) == set(as_rows(trace.table()))
    for kind in KINDS:
        in_order = [site.name for site in trace.sites if site.kind == kind]
        found = [site.name for site in read.sites if site.kind == kind]
        # The numbers of a step are logged one at a time, which says nothing of their order.
        assert (sorted(found), len(found)) == (sorted(in_order), len(in_order)) if kind == "step" else found == in_order
    assert trace.first_bad is not None
    assert read.first_bad is not None
    assert (read.first_bad.step, read.first_bad.site.key, read.first_bad.nan) == (
        trace.first_bad.step,
        trace.first_bad.site.key,
        trace.first_bad.nan,
    )


def test_a_run_keeps_what_memory_let_go(tmp_path: Path) -> None:
    with new_run(tmp_path / "run") as run:
        trace = trained(run=run, memory=300, quantities=["mean"])
    assert trace.kept_every > 1
    assert trace_of(open_run(tmp_path / "run")).steps == list(range(6))


def test_a_run_in_which_nothing_was_watched_is_refused(tmp_path: Path) -> None:
    with new_run(tmp_path / "run") as run:
        run.log(0, {"loss": 1.0, "val.accuracy": 0.5})
    with pytest.raises(
        ConfigError, match=r"run 'watched' contains no numbers written by watch\. Pass it to watch\(model, run=...\)"
    ):
        trace_of(open_run(tmp_path / "run"))
