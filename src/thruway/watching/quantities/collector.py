"""From tensors to numbers: same-shaped tensors are reduced in one stacked call, all results copied to the host at once.

A tensor handed in is held until its group fills a block, or until someone is about to write into it. On the CPU
one of which no more than mean, spread and flat ends is wanted is measured at once: by the compiled sweep any, by
torch's calls a large one.
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
from thruway.watching.quantities.native_library import native_sweep
from thruway.watching.quantities.native_moments import Swept
from thruway.watching.quantities.rows import Rows, flat_rows
from thruway.watching.quantities.table import QUANTITIES, Quantity
from thruway.watching.sites import Site

__all__ = ["Collector", "Measured"]

# Bytes of one block: large enough that a call's own cost is small beside its work, small enough for the cache.
_BLOCK = 4 << 20
_DIRECT = _BLOCK // 4  # a tensor from this size on is reduced where it lies, without a copy
_AT_ONCE = 64 << 10  # and from this size on measured at once, where its moments are all that is wanted
_SWEPT = 512 << 10  # smaller ones wait for each other, as long as they lie in the cache together


@dataclass(slots=True)
class Measured:
    """One quantity at several sites: `values` (sites,), or (sites, m) for a quantity of m numbers."""

    quantity: Quantity
    sites: tuple[Site, ...]
    count: int  # values behind each number: the weight when parts of a step are merged
    values: NDArray[Any]


@dataclass(slots=True)
class _Group:
    """Tensors of one shape, type, device and meaning that wait to be reduced together."""

    shape: torch.Size
    dtype: torch.dtype
    is_cpu: bool
    activation: str | None
    unit_dim: int
    quantities: tuple[Quantity, ...]
    capacity: int
    moments: Moments | Swept | None = None  # for those of which no more is wanted
    is_at_once: bool = False
    takes_now: bool = False  # at once, and in this step
    strided: tuple[Quantity, ...] = ()  # for which Rows are needed now and then
    sites: list[Site] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)


class Collector:
    """Reduces what it is handed during one sampled step; `finish` gives the numbers and forgets the tensors.

    Args:
        quantities: what to measure.
        fold: what becomes of a quantity that looks back over steps: (quantity, sites, (k, units)) -> (k,).
    """

    def __init__(
        self,
        quantities: Sequence[Quantity],
        fold: Callable[[Quantity, tuple[Site, ...], Tensor], Tensor] | None = None,
        *,
        careful: bool = False,
    ) -> None:
        self._quantities = tuple(quantities)
        self._fold = fold
        self._careful = careful
        self._groups: dict[tuple[Any, ...], _Group] = {}
        self._blocks: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}
        self._results: list[tuple[Quantity, tuple[Site, ...], int, Tensor]] = []
        self._written_to: set[Site] = set()
        self._doubtful: set[Site] = set()
        self.sampled = 0  # sampled steps before this one, for the strides

    def add(self, site: Site, tensor: Tensor) -> None:
        """Measure this tensor at this site, now or a little later."""
        group: _Group | None = site.group
        if (
            group is None
            or tensor.shape != group.shape
            or tensor.dtype is not group.dtype
            or tensor.is_cpu is not group.is_cpu
        ):
            group = site.group = self._group_of(site, tensor)
        if group.takes_now and group.moments.take(site, tensor):  # type: ignore[union-attr]
            return
        if site in self._written_to:
            tensor = tensor.detach().clone()
        group.sites.append(site)
        group.tensors.append(tensor)
        group.versions.append(tensor._version)
        if len(group.tensors) >= group.capacity:
            self._flush(group)

    def add_block(self, sites: Sequence[Site], values: Tensor) -> None:
        """Measure (k, ...) values that lie in one tensor already, a row per site."""
        group = self._group_of(sites[0], values[0])  # of this shape: the next batch may have fewer rows
        with torch.no_grad():
            self._reduce(group, tuple(sites), values.detach())

    def about_to_write(self, tensor: Tensor) -> None:
        """Someone will overwrite this tensor: if it waits here, keep its values until they are measured."""
        for group in self._groups.values():
            for index in range(len(group.tensors) - 1, -1, -1):  # mostly it is the latest
                if group.tensors[index] is tensor:
                    group.tensors[index] = copy = tensor.detach().clone()
                    group.versions[index] = copy._version
                    return

    def flush(self) -> None:
        """Reduce everything that waits; no tensor is held afterwards."""
        for group in self._groups.values():
            if group.tensors:
                self._flush(group)

    def forget(self) -> None:
        """Drop every tensor for good: what waits, what is reduced, what is known of units, the memory to work in."""
        self._fold = None
        self._results.clear()
        self._blocks.clear()
        for group in self._groups.values():
            group.sites, group.tensors, group.versions = [], [], []
            if group.moments is not None:
                group.moments.forget()
                group.moments.drop_memory()

    def doubt(self, sites: Iterable[Site]) -> None:
        """Give no number of these sites for this step: what was handed in under their names is something else."""
        self._doubtful.update(sites)

    def finish(self) -> list[Measured]:
        """The step's numbers, copied to the host in one transfer per device."""
        self.flush()
        results, self._results = self._results, []
        self.sampled += 1
        for group in self._groups.values():
            group.takes_now = group.is_at_once and self._is_simple_now(group)
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
                host[i] = part if part.ndim == 1 else part.copy()  # kept as it is, and must not keep all the rest
                start += shape.numel()
        measured = [Measured(q, sites, n, values) for (q, sites, n, _), values in zip(results, host, strict=True)]
        measured += self._taken_at_once()
        if self._doubtful:
            measured = [_without(m, self._doubtful) for m in measured]
            self._doubtful = set()
        return measured

    def _taken_at_once(self) -> Iterator[Measured]:
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
            quantities = tuple(
                q
                for q in self._quantities
                if site.kind in q.kinds and (q.activations is None or site.activation in q.activations)
            )
            group = _Group(
                tensor.shape, tensor.dtype, tensor.is_cpu, site.activation, site.unit_dim, quantities, capacity
            )
            group.strided = tuple(q for q in quantities if q.stride > 1)
            simple = tuple(q for q in quantities if q.stride == 1)
            if self._is_simple(tensor, simple):
                shares = [q.name for q in simple if q.name in SHARES]
                is_swept = tensor.dtype == torch.float32 and native_sweep() is not None
                if is_swept:
                    group.moments = Swept(tensor.numel(), site.activation, shares)
                else:
                    group.moments = Moments(tensor.dtype, tensor.numel(), site.activation, shares)
                group.is_at_once = size >= _AT_ONCE
                group.takes_now = group.is_at_once and self._is_simple_now(group)
                if is_swept and not group.is_at_once:
                    group.capacity = _SWEPT // max(size, 1024)
            self._groups[key] = group
        return group

    def _is_simple_now(self, group: _Group) -> bool:
        """Moments will do, as no strided quantity is to be taken in this step."""
        return group.moments is not None and not any(self.sampled % q.stride == 0 for q in group.strided)

    def _is_simple(self, tensor: Tensor, quantities: tuple[Quantity, ...]) -> bool:
        """Nothing is wanted that Moments could not give."""
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
        if not all(intact):  # written to behind our back: no number now, a copy at once from the next step on
            self._written_to.update(s for s, good in zip(sites, intact, strict=True) if not good)
            tensors = [t for t, good in zip(tensors, intact, strict=True) if good]
            sites = [s for s, good in zip(sites, intact, strict=True) if good]
        if isinstance(group.moments, Swept) and self._is_simple_now(group) and group.moments.take_each(sites, tensors):
            return
        if tensors:
            with torch.no_grad():
                self._reduce(group, tuple(sites), self._stack(tensors))

    def _stack(self, tensors: list[Tensor]) -> Tensor:
        """(k, ...) in a block that is used again and again: fresh memory would cost more than the copy."""
        first = tensors[0]
        if len(tensors) == 1:
            return first.detach().unsqueeze(0)
        block = self._memory(first, len(tensors) * first.numel())[0]
        out = block[: len(tensors) * first.numel()].view(len(tensors), *first.shape)
        return torch.stack(tensors, out=out)

    def _memory(self, like: Tensor, size: int) -> tuple[Tensor, Tensor]:
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
        if group.moments is not None and group.moments.take_rows(sites, flat_rows(values)):
            quantities = tuple(q for q in quantities if q in group.strided)
            if not quantities:
                return
        if values.dtype not in (torch.float32, torch.float64):
            values = values.float()
        scratch = self._memory(values, values.numel())[1] if values.numel() * 4 <= 4 * _BLOCK else None
        rows = Rows(values, group.activation, group.unit_dim, careful=self._careful, scratch=scratch)
        for quantity in quantities:
            measured = quantity.measure(rows)
            if quantity.window is not None and self._fold is not None:
                measured = self._fold(quantity, sites, measured)
            if measured.shape[:1] != (len(sites),):
                raise ShapeError(_refuse_shape(quantity, measured, len(sites)))
            if measured._base is not None:  # part of a block that the next group will overwrite
                measured = measured.clone()
            self._results.append((quantity, sites, rows.count, measured))


def _without(measured: Measured, doubtful: set[Site]) -> Measured:
    kept = [index for index, site in enumerate(measured.sites) if site not in doubtful]
    sites = tuple(measured.sites[index] for index in kept)
    return Measured(measured.quantity, sites, measured.count, measured.values[kept])


def _refuse_shape(quantity: Quantity, measured: Tensor, sites: int) -> str:
    return (
        f"the quantity {quantity.name!r} gave {tuple(measured.shape)} for {sites} tensors. Its measure takes "
        "Rows of k tensors and gives one number for each, (k,), or m numbers, (k, m)."
    )
