"""Reduction of captured tensors to numbers, with one stacked call per shape and one copy to the host per step.

Tensors of the same shape are collected and reduced together when they fill a block of memory, or before an operation
overwrites one of them. On the CPU, tensors of which only mean, standard deviation, zeros and saturation are measured
are not copied into a block: large ones are reduced immediately, small ones in groups by one call of the native loop.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thruway.errors import ShapeError
from thruway.watching.quantities.moments import MOMENTS, SHARES, Moments
from thruway.watching.quantities.native_moments import NativeMoments, native_functions
from thruway.watching.quantities.rows import Rows, flat_rows
from thruway.watching.quantities.table import QUANTITIES, Quantity
from thruway.watching.sites import Site

__all__ = ["Collector", "Measured"]

# Bytes of one block: large enough that the overhead of a call is small, small enough for the processor's cache.
_BLOCK = 4 << 20
_DIRECT = _BLOCK // 16  # tensors of at least this size are reduced in place, without a copy into a block
_IMMEDIATE = 64 << 10  # tensors of at least this size are measured at once, if Moments are enough
_NATIVE_BLOCK = 512 << 10  # smaller ones are measured together, as many as fit into the cache


@dataclass(slots=True)
class Measured:
    """Values of one quantity at several sites, of shape (sites,), or (sites, m) for a quantity of m numbers."""

    quantity: Quantity
    sites: tuple[Site, ...]
    count: int  # number of values that each number was computed from: its weight when parts of a step are merged
    values: NDArray[Any]


@dataclass(slots=True)
class _Group:
    """Tensors of the same shape, dtype, device and kind of site that are reduced together."""

    shape: torch.Size
    dtype: torch.dtype
    is_cpu: bool
    activation: str | None
    unit_dim: int
    quantities: tuple[Quantity, ...]
    capacity: int
    moments: Moments | NativeMoments | None = None  # if the quantities of stride 1 need nothing else
    is_immediate: bool = False
    is_immediate_now: bool = False  # in this step, too: no strided quantity is due
    strided: tuple[Quantity, ...] = ()  # those of a stride above 1, which need Rows in some steps
    sites: list[Site] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)


class Collector:
    """Reduces the tensors of a sampled step; `finish` returns the numbers.

    Args:
        quantities: quantities to measure.
        fold: function of (name of the quantity, window, sites, (k, units)) that combines a quantity that has a window
            with its earlier samples, and returns (k,).
        careful: If True, use the formulas that do not need a check of the values, as on a GPU.
    """

    def __init__(
        self,
        quantities: Sequence[Quantity],
        fold: Callable[[str, int, tuple[Site, ...], Tensor], Tensor] | None = None,
        *,
        careful: bool = False,
    ) -> None:
        self.quantities = tuple(quantities)
        self._fold = fold
        self._careful = careful
        self._groups: dict[tuple[Any, ...], _Group] = {}
        self._blocks: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}
        self._results: list[tuple[Quantity, tuple[Site, ...], int, Tensor]] = []
        self._overwritten: set[Site] = set()
        self._discarded: dict[Site, bool] = {}
        self.sampled = 0  # number of sampled steps before this one, for the strides

    def add(self, site: Site, tensor: Tensor) -> None:
        """Measure a tensor at a site, now or with its group."""
        group: _Group | None = site.group
        if (
            group is None
            or tensor.shape != group.shape
            or tensor.dtype is not group.dtype
            or tensor.is_cpu is not group.is_cpu
        ):
            group = site.group = self._group_of(site, tensor)
        if group.is_immediate_now and group.moments.add(site, tensor):  # type: ignore[union-attr]
            return
        if site in self._overwritten:
            tensor = tensor.detach().clone()
        group.sites.append(site)
        group.tensors.append(tensor)
        group.versions.append(tensor._version)
        if len(group.tensors) >= group.capacity:
            self._flush(group)

    def add_block(self, sites: Sequence[Site], values: Tensor) -> None:
        """Measure values (k, ...) that are in a single tensor, with one row per site."""
        group = self._group_of(sites[0], values[0])  # by the shape of a row: the next batch may be smaller
        with torch.no_grad():
            self._reduce(group, tuple(sites), values.detach())

    def add_number(self, quantity: Quantity, site: Site, number: Tensor) -> None:
        """Add a number that was computed on its device, a tensor of one element, to be copied with the others."""
        self._results.append((quantity, (site,), 1, number.detach().reshape(1)))

    def about_to_write(self, tensor: Tensor) -> None:
        """Copy a held tensor, because an operation is about to overwrite it."""
        for group in self._groups.values():
            for index in range(len(group.tensors) - 1, -1, -1):  # usually it is the latest
                if group.tensors[index] is tensor:
                    group.tensors[index] = copy = tensor.detach().clone()
                    group.versions[index] = copy._version
                    return

    def flush(self) -> None:
        """Reduce and release all held tensors."""
        for group in self._groups.values():
            if group.tensors:
                self._flush(group)

    def release(self) -> None:
        """Release every tensor: held tensors, results, samples of earlier steps, and reused memory."""
        self._fold = None
        self._results.clear()
        self._blocks.clear()
        for group in self._groups.values():
            group.sites, group.tensors, group.versions = [], [], []
            if group.moments is not None:
                group.moments.clear()
                group.moments.free_scratch()

    def discard(self, sites: Iterable[Site], *, only_of_activations: bool = False) -> None:
        """Drop the numbers of these sites in this step: all of them, or those that only activations have."""
        self._discarded.update(dict.fromkeys(sites, only_of_activations))

    def finish(self, *, is_part: bool = False) -> list[Measured]:
        """Return the numbers of the step, or of a part of it, copied to the host in one transfer per device."""
        self.flush()
        results, self._results = self._results, []
        self.sampled += not is_part
        for group in self._groups.values():
            group.is_immediate_now = group.is_immediate and self._moments_suffice_now(group)
        by_device: dict[torch.device, list[int]] = {}
        for index, (_, _, _, values) in enumerate(results):
            by_device.setdefault(values.device, []).append(index)
        host: list[NDArray[Any]] = [np.empty(0)] * len(results)
        for indices in by_device.values():
            packed = torch.cat([results[i][3].reshape(-1) for i in indices]).cpu().numpy()
            start = 0
            for i in indices:
                shape = results[i][3].shape
                part = packed[start : start + shape.numel()].reshape(shape)
                # Arrays are stored as they are, and a view would keep all of `packed` alive.
                host[i] = part if part.ndim == 1 else part.copy()
                start += shape.numel()
        measured = [Measured(q, sites, n, values) for (q, sites, n, _), values in zip(results, host, strict=True)]
        measured += self._immediate_results()
        if self._discarded:
            measured = [_without(m, self._discarded) for m in measured]
            self._discarded = {}
        return measured

    def _immediate_results(self) -> Iterator[Measured]:
        for group in self._groups.values():
            sites, numbers = group.moments.drain() if group.moments is not None else ((), {})
            if sites and group.moments is not None:
                for quantity in group.quantities:
                    if quantity not in group.strided:
                        yield Measured(quantity, sites, group.moments.count, numbers[quantity.name])

    def _group_of(self, site: Site, tensor: Tensor) -> _Group:
        key = (site.kind, tensor.shape, tensor.dtype, tensor.device, site.activation, site.unit_dim)
        group = self._groups.get(key)
        if group is None:
            size = tensor.numel() * max(tensor.element_size(), 4)
            capacity = 1 if size >= _DIRECT else _BLOCK // max(size, 1024)
            quantities = tuple(q for q in self.quantities if q.is_for(site, tensor.dim()))
            group = _Group(
                tensor.shape, tensor.dtype, tensor.is_cpu, site.activation, site.unit_dim, quantities, capacity
            )
            group.strided = tuple(q for q in quantities if q.stride > 1)
            unstrided = tuple(q for q in quantities if q.stride == 1)
            if self._moments_suffice(tensor, unstrided):
                shares = [q.name for q in unstrided if q.name in SHARES]
                is_native = tensor.dtype == torch.float32 and native_functions() is not None
                if is_native:
                    group.moments = NativeMoments(tensor.numel(), site.activation, shares)
                else:
                    group.moments = Moments(tensor.dtype, tensor.numel(), site.activation, shares)
                group.is_immediate = size >= _IMMEDIATE
                group.is_immediate_now = group.is_immediate and self._moments_suffice_now(group)
                if is_native and not group.is_immediate:
                    group.capacity = _NATIVE_BLOCK // max(size, 1024)
            self._groups[key] = group
        return group

    def _moments_suffice_now(self, group: _Group) -> bool:
        """Return True if Moments are sufficient in this step, because no strided quantity is due."""
        return group.moments is not None and not any(self.sampled % q.stride == 0 for q in group.strided)

    def _moments_suffice(self, tensor: Tensor, quantities: tuple[Quantity, ...]) -> bool:
        """Return True if Moments can measure all of `quantities` for tensors like this one."""
        return (
            tensor.device.type == "cpu"
            and not self._careful
            and tensor.dtype in (torch.float32, torch.float64)
            and all(QUANTITIES.get(q.name) is q and q.name in MOMENTS | SHARES for q in quantities)
        )

    def _flush(self, group: _Group) -> None:
        sites, tensors = group.sites, group.tensors
        intact = [t._version == v for t, v in zip(tensors, group.versions, strict=True)]
        group.sites, group.tensors, group.versions = [], [], []
        if not all(
            intact
        ):  # overwritten by a call that was not captured: no number in this step, a copy from the next step on
            self._overwritten.update(s for s, good in zip(sites, intact, strict=True) if not good)
            tensors = [t for t, good in zip(tensors, intact, strict=True) if good]
            sites = [s for s, good in zip(sites, intact, strict=True) if good]
        if (
            isinstance(group.moments, NativeMoments)
            and self._moments_suffice_now(group)
            and group.moments.add_each(sites, tensors)
        ):
            return
        if tensors:
            with torch.no_grad():
                self._reduce(group, tuple(sites), self._stack(tensors))

    def _stack(self, tensors: list[Tensor]) -> Tensor:
        """Stack to (k, ...) in a reused block, since allocating new memory would take longer than the copy."""
        first = tensors[0]
        if len(tensors) == 1:
            return first.detach().unsqueeze(0)
        block = self._reused_memory(first, len(tensors) * first.numel())[0]
        out = block[: len(tensors) * first.numel()].view(len(tensors), *first.shape)
        return torch.stack(tensors, out=out)

    def _reused_memory(self, like: Tensor, size: int) -> tuple[Tensor, Tensor]:
        key = (like.dtype, like.device)
        pair = self._blocks.get(key)
        if pair is None or pair[0].shape[0] < size:
            wide = torch.promote_types(like.dtype, torch.float32)
            pair = self._blocks[key] = (
                torch.empty(size, dtype=like.dtype, device=like.device),
                torch.empty(size, dtype=wide, device=like.device),
            )
        return pair

    def _reduce(self, group: _Group, sites: tuple[Site, ...], values: Tensor) -> None:
        quantities = tuple(q for q in group.quantities if self.sampled % q.stride == 0)
        if group.moments is not None and group.moments.add_rows(sites, flat_rows(values)):
            quantities = tuple(q for q in quantities if q in group.strided)
            if not quantities:
                return
        if values.dtype not in (torch.float32, torch.float64):
            values = values.float()
        scratch = self._reused_memory(values, values.numel())[1] if values.numel() * 4 <= 4 * _BLOCK else None
        rows = Rows(values, group.activation, group.unit_dim, careful=self._careful, scratch=scratch)
        for quantity in quantities:
            measured = quantity.measure(rows)
            if quantity.window is not None and self._fold is not None:
                measured = self._fold(quantity.name, quantity.window, sites, measured)
            if measured.shape[:1] != (len(sites),):
                raise ShapeError(_wrong_shape(quantity, measured, len(sites)))
            if measured._base is not None:  # a view of the block, which the next group overwrites
                measured = measured.clone()
            self._results.append((quantity, sites, rows.count, measured))


def _without(measured: Measured, discarded: dict[Site, bool]) -> Measured:
    is_of_all = measured.quantity.activations is None
    kept = [i for i, site in enumerate(measured.sites) if site not in discarded or (discarded[site] and is_of_all)]
    sites = tuple(measured.sites[index] for index in kept)
    return Measured(measured.quantity, sites, measured.count, measured.values[kept])


def _wrong_shape(quantity: Quantity, measured: Tensor, sites: int) -> str:
    return (
        f"the quantity {quantity.name!r} returned shape {tuple(measured.shape)} for {sites} tensors. Its measure takes "
        "Rows of k tensors and returns one number for each, (k,), or m numbers, (k, m)."
    )
