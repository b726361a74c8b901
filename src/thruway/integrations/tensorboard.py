"""Live logging of the quantities recorded by `watch` to TensorBoard."""

import contextlib
import importlib
import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from thruway.errors import ConfigError
from thruway.watching import Trace
from thruway.watching.sites import Kind

__all__ = ["TensorBoard"]


class TensorBoard(contextlib.AbstractContextManager["TensorBoard"]):
    """Writer for `watch(run=...)`: one TensorBoard scalar per quantity and site, tagged "output.std/blocks.3.relu".

    Args:
        folder: log directory, or an open SummaryWriter, which is not closed at the end.
        quantities: names of the quantities to write, as "std", or "gradient.std" for one kind of site. Default: all.
    Raises:
        ConfigError: if tensorboard is not installed.

    >>> import tempfile, torch
    >>> from thruway.watching import watch
    >>> net = torch.nn.Linear(3, 2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with TensorBoard(folder, quantities=["std"]) as board, watch(net, run=board):
    ...         net(torch.ones(4, 3)).sum().backward()
    """

    def __init__(self, folder: Path | str | Any, quantities: Collection[str] | None = None) -> None:
        writers, self._summary = _tensorboard()
        self._is_ours = isinstance(folder, (str, Path))
        self._writer: Any = writers.SummaryWriter(str(folder)) if self._is_ours else folder
        self._quantities = None if quantities is None else frozenset(quantities)

    def log_sites(self, step: int, quantity: str, sites: Sequence[str], values: Any) -> None:
        """Write one quantity at many sites for one step; called by `watch`. NaN and infinity are written unchanged."""
        if self._quantities is not None and not self._quantities & {quantity, quantity.partition(".")[2]}:
            return
        tags = [f"{quantity}/{site or 'model'}" for site in sites]
        numbers = zip(tags, np.asarray(values, dtype=float).tolist(), strict=True)
        # One event for all sites: one event per site costs thirty times as much.
        value = self._summary.Value
        summary = self._summary(value=[value(tag=tag, simple_value=number) for tag, number in numbers])
        self._writer.file_writer.add_summary(summary, step)

    def log_histograms(self, trace: Trace, kind: Kind = "output") -> None:
        """Write all histograms of a trace that recorded the quantity "histogram".

        Raises:
            ConfigError: if the trace has no histograms at sites of this kind.
        """
        for step, site, edges, counts in _histograms(trace, kind):
            if counts.sum() == 0:
                continue
            centers = (edges[:-1] + edges[1:]) / 2
            self._writer.add_histogram_raw(
                f"{kind}.histogram/{site or 'model'}",
                min=float(edges[0]),
                max=float(edges[-1]),
                num=float(counts.sum()),
                sum=float(counts @ centers),
                sum_squares=float(counts @ centers**2),
                bucket_limits=edges[1:].tolist(),
                bucket_counts=counts.tolist(),
                global_step=step,
            )

    def close(self) -> None:
        """Flush all events to disk. A SummaryWriter passed by the caller stays open."""
        self._writer.flush()
        if self._is_ours:
            self._writer.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


def _histograms(trace: Trace, kind: Kind) -> Iterator[tuple[int, str, Any, Any]]:
    found = False
    for step in trace.steps:
        try:
            histograms = trace.histograms(kind, step)
        except ConfigError:  # histograms are recorded at every n-th step only
            continue
        found = True
        for name, edges, counts in zip(histograms.names, histograms.edges, histograms.counts, strict=True):
            if math.isfinite(edges[0]) and math.isfinite(edges[-1]):
                yield step, name, edges, counts
    if not found:
        trace.histograms(kind)  # raises the error that names what is missing


def _tensorboard() -> tuple[Any, Any]:
    """Return the module torch.utils.tensorboard and the protocol buffer class Summary."""
    try:
        summary = importlib.import_module("tensorboard.compat.proto.summary_pb2").Summary
        return importlib.import_module("torch.utils.tensorboard"), summary
    except ImportError as error:
        raise ConfigError(
            f"writing to TensorBoard needs tensorboard, which cannot be imported ({error}). "
            "Install it with: pip install 'thruway[tensorboard]'."
        ) from error
