"""A trace as one file, which holds numbers and text and can run nothing.

    header          JSON: sites, branches, layouts, first bad value ... and the format's number
    steps           (steps,): their numbers
    block           (steps,): which of the blocks a step's numbers lie in; in order within the block
    numbers_0 ...   (steps of the block, numbers)
    arrays_0 ...    (times, sites, ...): one quantity of many numbers at the same sites
    arrays_0_at ... (times, 3): place of the step, place within the step, values behind each number

Names begin with "probe." for the trace of the probe batch. The file is an .npz of uncompressed .npy members, so
that NumPy reads it too. Every member has a checksum, and is no larger than the file.
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
from typing import Any, get_args

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from thruway.errors import RunError, ThruwayError
from thruway.runs.files import fsync_folder, temporary
from thruway.watching.quantities.collector import Measured
from thruway.watching.quantities.table import Quantity
from thruway.watching.registry import Registry
from thruway.watching.sites import Kind, Site
from thruway.watching.trace.layout import Key, Layout
from thruway.watching.trace.steps import BadValue, Step

__all__ = ["Kept", "load_kept", "save_kept"]

FORMAT = 1
Members = dict[str, NDArray[Any]]

# What a file that is damaged, or was made to deceive, may raise from zipfile, NumPy, JSON and our own reading.
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
class Kept:
    """All that makes a trace, apart from where it writes."""

    model: str
    kept_every: int
    samples: int
    first_bad: BadValue | None
    failure: Exception | None  # from a file: what it said
    units: dict[str, str]
    registry: Registry
    layouts: dict[Key, Layout]
    steps: list[Step]
    probe: "Kept | None" = None


def save_kept(kept: Kept, path: Path) -> Path:
    """Write the file; it appears whole or not at all.

    Raises:
        RunError: if it cannot be written; an older file at `path` is then untouched.
    """
    members: Members = {}
    header = json.dumps({"format": FORMAT, "trace": _pack(kept, "", members)})
    members = {"header": np.frombuffer(header.encode(), np.uint8)} | members
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary(path.parent) as fresh:
            with fresh.open("xb") as file:
                with zipfile.ZipFile(file, "w") as archive:
                    for name, array in members.items():
                        # A member without a date: the same trace gives the same bytes.
                        with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                            npy.write_array(member, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, path)
        fsync_folder(path.parent)
    except OSError as error:
        raise RunError(
            f"cannot write {str(path)!r}: {error}. Choose a folder you may write to, with room left."
        ) from error
    return path


def load_kept(path: Path) -> Kept:
    """Read what `save_kept` wrote.

    Raises:
        RunError: if there is no such file, it is no trace or damaged, or was written by a later format.
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
        raise RunError(f"{path} cannot be read: {error.strerror or error}. Give the file that save wrote.") from error
    except _BROKEN as error:
        raise RunError(
            f"{path} is damaged, or no trace that Thruway saved ({type(error).__name__}: {error}). Put back a copy."
        ) from error


@dataclass(frozen=True)
class _Members:
    """The arrays of an open file, read one by one."""

    archive: zipfile.ZipFile

    def __getitem__(self, name: str) -> NDArray[Any]:
        info = self.archive.getinfo(f"{name}.npy")
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{info.filename} is compressed, as no trace is")
        content = self.archive.read(info)  # the whole member first, as its checksum comes last
        file = io.BytesIO(content)
        read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(content) - file.tell():
            raise ValueError(f"{info.filename} does not hold the {shape} numbers that it names")
        return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape, order="F" if fortran else "C")


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


def _pack(kept: Kept, before: str, members: Members) -> dict[str, Any]:
    """The header of a trace, whose numbers go into `members`."""
    met = [*kept.registry.sites.values(), *(site for key in kept.layouts for _, sites in key for site in sites)]
    number_of = {site: number for number, site in enumerate(dict.fromkeys(met))}
    layouts = {layout: number for number, layout in enumerate(kept.layouts.values())}
    blocks: dict[tuple[Layout, str], _Block] = {}
    stacks: dict[tuple[Any, ...], _Stack] = {}
    block_of = []
    for index, step in enumerate(kept.steps):
        # A step whose parts were merged may be wider than others laid out alike.
        block = blocks.setdefault((step.layout, step.numbers.dtype.str), _Block(layouts[step.layout]))
        block.rows.append(step.numbers)
        block_of.append(list(blocks).index((step.layout, step.numbers.dtype.str)))
        for place, m in enumerate(step.arrays):
            key = (m.quantity.name, m.sites, m.values.shape, m.values.dtype.str)
            stack = stacks.setdefault(key, _Stack(m))
            stack.values.append(m.values)
            stack.at.append((index, place, m.count))
    members[f"{before}steps"] = np.array([step.number for step in kept.steps], dtype=np.int64)
    members[f"{before}block"] = np.array(block_of, dtype=np.int64)
    for number, block in enumerate(blocks.values()):
        members[f"{before}numbers_{number}"] = np.stack(block.rows)
    for number, stack in enumerate(stacks.values()):
        members[f"{before}arrays_{number}"] = np.stack(stack.values)
        members[f"{before}arrays_{number}_at"] = np.array(stack.at, dtype=np.int64)
    bad = kept.first_bad
    return {
        "model": kept.model,
        "kept_every": kept.kept_every,
        "samples": kept.samples,
        "first_bad": None if bad is None else [bad.step, number_of[bad.site], bad.nan, bad.inf],
        "failure": None if kept.failure is None else _said(kept.failure),
        "units": kept.units,
        "sites": [[s.name, s.kind, s.operation, s.activation, s.unit_dim, s.is_gate, s.order] for s in number_of],
        "branches": kept.registry.branches,
        "layouts": [[[name, [number_of[site] for site in sites]] for name, sites in key] for key in kept.layouts],
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
        "probe": None if kept.probe is None else _pack(kept.probe, f"{before}probe.", members),
    }


def _unpack(header: Mapping[str, Any], before: str, members: _Members) -> Kept:
    sites = [_site(*fields) for fields in header["sites"]]
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
    return Kept(
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
    )


def _site(
    name: str, kind: Kind, operation: str, activation: str | None, unit_dim: int, is_gate: bool, order: int
) -> Site:
    if kind not in get_args(Kind):
        raise ValueError(f"{kind!r} is no kind of site")
    return Site(name, kind, operation, activation, unit_dim, is_gate, order)


def _said(error: Exception) -> str:
    return str(error) if type(error) is ThruwayError else f"{type(error).__name__}: {error}"


def _not_measured(_rows: object) -> Any:
    raise RunError("this quantity came from a file, which holds its numbers and not how they were measured.")
