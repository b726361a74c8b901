"""File format of a trace: a single file of numbers and text, without executable content.

    header          JSON: sites, branches, layouts, first bad value ... and the number of the format
    steps           (steps,): the numbers of the steps
    block           (steps,): the block that holds each step's numbers, in order within the block
    numbers_0 ...   (steps of the block, numbers)
    arrays_0 ...    (times, sites, ...): one quantity of many numbers at the same sites
    arrays_0_at ... (times, 3): index of the step, index within the step, values per number

The names for the trace of the probe begin with "probe.". The file is an .npz of uncompressed .npy members, which NumPy
can read. Every member has a checksum, and is no larger than the file.
"""

import io
import json
import math
import os
import struct
import tokenize
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from thruway.errors import RunError, ThruwayError
from thruway.runs.files import fsync_folder, temporary
from thruway.watching.facts import LossNode
from thruway.watching.quantities.collector import Measured
from thruway.watching.quantities.table import Quantity
from thruway.watching.sites import KINDS, GateRole, Kind, Registry, Site
from thruway.watching.trace.steps import BadValue, Layout, LayoutKey, Step

__all__ = ["SavedTrace", "load_trace", "save_trace"]

FORMAT = 2  # of files with sites of a kind in _NEW_KINDS; others are in format 1, which older versions read
_NEW_KINDS: frozenset[Kind] = frozenset(("input", "step"))
Members = dict[str, NDArray[Any]]

# Exceptions of zipfile, NumPy, json and this module for a damaged or malicious file.
_BROKEN = (
    zipfile.BadZipFile,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    StopIteration,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
)


@dataclass(frozen=True)
class SavedTrace:
    """The contents of a trace, except the run that it writes to."""

    model: str
    kept_every: int
    samples: int
    first_bad: BadValue | None
    failure: Exception | None  # loaded from a file: its message alone
    units: dict[str, str]
    registry: Registry
    layouts: dict[LayoutKey, Layout]
    steps: list[Step]
    probe: "SavedTrace | None" = None
    optimizer: str = ""
    loss_graph: tuple[LossNode, ...] = ()


def save_trace(trace: SavedTrace, path: Path) -> Path:
    """Write a trace to a file, atomically.

    Raises:
        RunError: if it cannot be written; an existing file at `path` is then left as it was.
    """
    members: Members = {}
    header = json.dumps({"format": _format_of(trace), "trace": _pack(trace, "", members)})
    members = {"header": np.frombuffer(header.encode(), np.uint8)} | members
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary(path.parent) as fresh:
            with fresh.open("xb") as file:
                with zipfile.ZipFile(file, "w") as archive:
                    for name, array in members.items():
                        # Without a date, so that the same trace gives the same bytes.
                        with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                            npy.write_array(member, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, path)
        fsync_folder(path.parent)
    except OSError as error:
        raise RunError(
            f"cannot write {str(path)!r}: {error}. Choose a writable folder with enough free space."
        ) from error
    return path


def load_trace(path: Path) -> SavedTrace:
    """Read a file written by `save_trace`.

    Raises:
        RunError: if the file is missing, damaged, not a trace, or in a newer format.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _Members(archive)
            header = json.loads(members["header"].tobytes())
            if header["format"] > FORMAT:
                raise RunError(
                    f"{path} has format {header['format']}, and this Thruway reads up to {FORMAT}. "
                    "Install the newer Thruway that wrote it."
                )
            return _unpack(header["trace"], "", members)
    except RunError:
        raise
    except OSError as error:
        raise RunError(
            f"{path} cannot be read: {error.strerror or error}. Pass a file written by Trace.save."
        ) from error
    except _BROKEN as error:
        raise RunError(
            f"{path} is damaged or not a trace ({type(error).__name__}: {error}). Pass a file written by Trace.save."
        ) from error


@dataclass(frozen=True)
class _Members:
    """The arrays of an open file, read one at a time."""

    archive: zipfile.ZipFile

    def __getitem__(self, name: str) -> NDArray[Any]:
        info = self.archive.getinfo(f"{name}.npy")
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{info.filename} is compressed, which members of a trace are not")
        content = self.archive.read(info)  # read to the end, where the checksum is verified
        file = io.BytesIO(content)
        read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(content) - file.tell():
            raise ValueError(f"{info.filename} does not hold the {shape} numbers that its header states")
        return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape, order="F" if fortran else "C")


def _format_of(trace: SavedTrace) -> int:
    """Return the oldest format that can hold the trace."""
    parts = [trace] if trace.probe is None else [trace, trace.probe]
    return 2 if any(kind in _NEW_KINDS for part in parts for kind, _ in part.registry.sites) else 1


# One trace


@dataclass
class _Block:
    layout: int
    rows: list[NDArray[Any]] = field(default_factory=list)


@dataclass
class _Stack:
    first: Measured
    values: list[NDArray[Any]] = field(default_factory=list)
    at: list[tuple[int, int, int]] = field(default_factory=list)


def _pack(trace: SavedTrace, before: str, members: Members) -> dict[str, Any]:
    """Return the header of a trace, and put its numbers into `members`."""
    every_site = [
        *trace.registry.sites.values(),
        *(site for key in trace.layouts for _, sites in key for site in sites),
    ]
    number_of = {site: number for number, site in enumerate(dict.fromkeys(every_site))}
    layouts = {layout: number for number, layout in enumerate(trace.layouts.values())}
    blocks: dict[tuple[Layout, str], _Block] = {}
    stacks: dict[tuple[Any, ...], _Stack] = {}
    block_of = []
    for index, step in enumerate(trace.steps):
        # The numbers of a step with merged parts may be of a wider type than those of other steps of the layout.
        block = blocks.setdefault((step.layout, step.numbers.dtype.str), _Block(layouts[step.layout]))
        block.rows.append(step.numbers)
        block_of.append(list(blocks).index((step.layout, step.numbers.dtype.str)))
        for place, m in enumerate(step.arrays):
            key = (m.quantity.name, m.sites, m.values.shape, m.values.dtype.str)
            stack = stacks.setdefault(key, _Stack(m))
            stack.values.append(m.values)
            stack.at.append((index, place, m.count))
    members[f"{before}steps"] = np.array([step.number for step in trace.steps], dtype=np.int64)
    members[f"{before}block"] = np.array(block_of, dtype=np.int64)
    for number, block in enumerate(blocks.values()):
        members[f"{before}numbers_{number}"] = np.stack(block.rows)
    for number, stack in enumerate(stacks.values()):
        members[f"{before}arrays_{number}"] = np.stack(stack.values)
        members[f"{before}arrays_{number}_at"] = np.array(stack.at, dtype=np.int64)
    bad = trace.first_bad
    return {
        "model": trace.model,
        "kept_every": trace.kept_every,
        "samples": trace.samples,
        "first_bad": None if bad is None else [bad.step, number_of[bad.site], bad.nan, bad.inf],
        "failure": None if trace.failure is None else _message(trace.failure),
        "units": trace.units,
        "sites": [[s.name, s.kind, s.operation, s.activation, s.unit_dim, s.is_gate, s.order] for s in number_of],
        "shapes": [s.shape for s in number_of],
        "gate_roles": [s.gate_role for s in number_of],
        "branches": trace.registry.branches,
        "optimizer": trace.optimizer,
        "loss_graph": [[n.operation, n.shape, n.site, n.inputs] for n in trace.loss_graph],
        "layouts": [[[name, [number_of[site] for site in sites]] for name, sites in key] for key in trace.layouts],
        "blocks": [block.layout for block in blocks.values()],
        "arrays": [
            [
                s.first.quantity.name,
                s.first.quantity.unit,
                s.first.quantity.merge,
                [number_of[x] for x in s.first.sites],
            ]
            for s in stacks.values()
        ],
        "probe": None if trace.probe is None else _pack(trace.probe, f"{before}probe.", members),
    }


def _unpack(header: Mapping[str, Any], before: str, members: _Members) -> SavedTrace:
    shapes = header.get("shapes", [()] * len(header["sites"]))  # formats before shapes were recorded have none
    roles = header.get("gate_roles", [None] * len(header["sites"]))
    sites = [_site(role, *row) for role, row in zip(roles, zip(shapes, header["sites"], strict=True), strict=True)]
    registry = Registry({site.key: site for site in sites}, {k: (a, b) for k, (a, b) in header["branches"].items()})
    keys = [tuple((str(name), tuple(sites[n] for n in at)) for name, at in key) for key in header["layouts"]]
    layouts = {key: Layout.of(key) for key in keys}
    in_order = [layouts[key] for key in keys]
    blocks = [(in_order[layout], iter(members[f"{before}numbers_{n}"])) for n, layout in enumerate(header["blocks"])]
    steps = []
    for number, block in zip(members[f"{before}steps"].tolist(), members[f"{before}block"].tolist(), strict=True):
        layout, rows = blocks[block]
        numbers = next(rows)
        if numbers.shape != (layout.size,):
            raise ValueError(f"step {number} has {numbers.shape} numbers, its layout {layout.size}")
        steps.append(Step(number, layout, numbers, []))
    found: list[tuple[int, int, Measured]] = []
    for number, (name, unit, merge, at) in enumerate(header["arrays"]):
        quantity = Quantity(str(name), str(unit), _not_measured, merge=merge)
        its_sites = tuple(sites[n] for n in at)
        places = members[f"{before}arrays_{number}_at"].tolist()
        for values, (index, place, count) in zip(members[f"{before}arrays_{number}"], places, strict=True):
            found.append((index, place, Measured(quantity, its_sites, count, values)))
    for index, _, measured in sorted(found, key=lambda entry: entry[:2]):
        steps[index].arrays.append(measured)
    bad = header["first_bad"]
    probe = header["probe"]
    return SavedTrace(
        model=str(header["model"]),
        kept_every=int(header["kept_every"]),
        samples=int(header["samples"]),
        first_bad=None if bad is None else BadValue(bad[0], sites[bad[1]], bad[2], bad[3]),
        failure=None if header["failure"] is None else ThruwayError(header["failure"]),
        units=dict(header["units"]),
        registry=registry,
        layouts=layouts,
        steps=steps,
        probe=None if probe is None else _unpack(probe, f"{before}probe.", members),
        optimizer=str(header.get("optimizer", "")),
        loss_graph=tuple(_loss_node(*fields) for fields in header.get("loss_graph", ())),
    )


def _loss_node(operation: str, shape: list[int], site: str | None, inputs: list[int]) -> LossNode:
    return LossNode(str(operation), tuple(map(int, shape)), site, tuple(map(int, inputs)))


def _site(role: GateRole | None, shape: list[int], row: list[Any]) -> Site:
    name, kind, operation, activation, unit_dim, is_gate, order = row
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is not a kind of site")
    return Site(name, kind, operation, activation, unit_dim, is_gate, order, tuple(map(int, shape)), role)


def _message(error: Exception) -> str:
    return str(error) if type(error) is ThruwayError else f"{type(error).__name__}: {error}"


def _not_measured(_rows: object) -> Any:
    raise RunError(
        "this quantity was loaded from a file, which contains its numbers but not the function that measures it."
    )
