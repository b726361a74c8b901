"""What is watched, in TensorBoard, while the training runs."""

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
    """Somewhere for `watch(run=...)` to write to: one curve per quantity and site, under "output.std/blocks.3.relu".

    Args:
        folder: where TensorBoard looks for runs; or an open SummaryWriter, which then stays open.
        quantities: only these, as "std", or as "gradient.std" for one kind of site; None for all.
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
        """One quantity at many sites of one step; `watch` calls this. NaN and infinity are written as they are."""
        if self._quantities is not None and not self._quantities & {quantity, quantity.partition(".")[2]}:
            return
        tags = [f"{quantity}/{site or 'model'}" for site in sites]
        numbers = zip(tags, np.asarray(values, dtype=float).tolist(), strict=True)
        # One event for all sites: an event each costs thirty times as much.
        value = self._summary.Value
        summary = self._summary(value=[value(tag=tag, simple_value=number) for tag, number in numbers])
        self._writer.file_writer.add_summary(summary, step)

    def log_histograms(self, trace: Trace, kind: Kind = "output") -> None:
        """Every histogram of a trace that was watched with the quantity "histogram", for the tab of that name.

        Raises:
            ConfigError: if the trace has no histograms of this kind of site.
        """
        for step, site, edges, counts in _histograms(trace, kind):
            if counts.sum() == 0:
                continue
            middles = (edges[:-1] + edges[1:]) / 2
            self._writer.add_histogram_raw(
                f"{kind}.histogram/{site or 'model'}",
                min=float(edges[0]),
                max=float(edges[-1]),
                num=float(counts.sum()),
                sum=float(counts @ middles),
                sum_squares=float(counts @ middles**2),
                bucket_limits=edges[1:].tolist(),
                bucket_counts=counts.tolist(),
                global_step=step,
            )

    def close(self) -> None:
        """Bring everything to disk; a writer that was handed in stays open."""
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
        except ConfigError:  # taken at every so-manyth step only
            continue
        found = True
        for name, edges, counts in zip(histograms.names, histograms.edges, histograms.counts, strict=True):
            if math.isfinite(edges[0]) and math.isfinite(edges[-1]):
                yield step, name, edges, counts
    if not found:
        trace.histograms(kind)  # says what is missing


def _tensorboard() -> tuple[Any, Any]:
    """torch's writers, and the class of what they write."""
    try:
        summary = importlib.import_module("tensorboard.compat.proto.summary_pb2").Summary
        return importlib.import_module("torch.utils.tensorboard"), summary
    except ImportError as error:
        raise ConfigError(
            f"writing to TensorBoard needs tensorboard, which cannot be imported ({error}). "
            "Install it with: pip install 'thruway[tensorboard]'."
        ) from error
