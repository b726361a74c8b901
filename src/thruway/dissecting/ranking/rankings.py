"""Published rankings of layers, compared with each other and with measured deletions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thruway.dissecting.finding.branches import Branch
from thruway.dissecting.ranking.influence import MEASURES, Per, stream_change
from thruway.dissecting.ranking.predictions import LossFunction, check_loss, measured_changes, slopes
from thruway.dissecting.ranking.rank_correlation import rank_correlation
from thruway.dissecting.running.engine import Engine
from thruway.dissecting.running.join_hooks import batch_size, checked_batches, run_with_hooks
from thruway.dissecting.running.merging import JoinHook
from thruway.errors import ConfigError, unknown_name
from thruway.runs import Table

__all__ = ["Rankings", "rankings"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Rankings:
    """Scores of the branches in several rankings. A higher score means a more important branch.

    Attributes:
        branches: the branches of the dissection.
        scores: for each ranking, a tensor (branches,): "measured" (change of the loss by deletion), "predicted" (the
            same to first order), "curved" (to second order), "influence" (1 - cosine), "angle" (fraction of a half
            turn), "ratio" (``|f| / |x|``), "norm" (``|f|``). NaN for a branch without a score.
        vectors: number of vectors of the stream in each mean, (branches,).
    """

    branches: tuple[Branch, ...]
    scores: dict[str, Floats]
    vectors: NDArray[np.int64]

    def table(self) -> Table:
        """A row per branch: index, name, kind, and a column for each ranking."""
        return Table(
            {
                "index": [branch.index for branch in self.branches],
                "name": [branch.name for branch in self.branches],
                "kind": [branch.kind for branch in self.branches],
                **self.scores,
            }
        )

    def order(self, ranking: str) -> list[int]:
        """Indices of the branches from the least to the most important. Those without a score come last.

        Raises:
            ConfigError: if the ranking is not in `scores`.
        """
        if ranking not in self.scores:
            raise ConfigError(unknown_name("ranking", ranking, self.scores))
        # Of equal scores the deeper branch comes first, since fewer layers depend on it.
        depth = -np.arange(len(self.branches))
        return [self.branches[place].index for place in np.lexsort((depth, self.scores[ranking]))]

    def agreement(self, with_: str = "measured", *, level: float = 0.95, draws: int = 2000) -> Table:
        """Spearman's correlation of each ranking with a chosen one, with a bootstrap interval over the branches.

        Args:
            with_: the ranking to compare with.
            level, draws: see `rank_correlation`.
        Returns:
            Columns ranking, rho, low, high, chance (share of shuffled orders that agree at least as well), count.
        Raises:
            ConfigError: if that ranking is missing.
        """
        if with_ not in self.scores:
            missing = unknown_name("ranking", with_, self.scores)
            raise ConfigError(f"{missing} Pass measured=... to rankings for 'measured', and a loss for 'predicted'.")
        others = [name for name in self.scores if name != with_]
        found = [rank_correlation(self.scores[name], self.scores[with_], level=level, draws=draws) for name in others]
        return Table(
            {
                "ranking": others,
                **{name: [getattr(each, name) for each in found] for name in ("rho", "low", "high", "chance", "count")},
            }
        )

    def __repr__(self) -> str:
        return f"Rankings of {len(self.branches)} branches\n{self.table()!r}"

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def rankings(
    engine: Engine, batches: Any = None, *, loss: Any = None, measured: Any = None, per: Per = "auto"
) -> Rankings:
    """Compute all rankings of the branches from one pass per batch, and a backward pass if there is a loss.

    x is the stream at the join without the branch, y is the stream with it, and f = y - x. In a block with a projection
    x is the projection; in a gated block f is T·(H - x); for a layer without a shortcut f is its output minus its
    input.

        influence = mean of 1 - cos(x, y)       angle = mean of arccos(cos(x, y)) / π
        ratio = mean of ‖f‖ / ‖x‖               norm = mean of ‖f‖

    The means include all vectors of all batches, also those of padding tokens. Only sums are stored, a few numbers per
    branch. The model runs in evaluation mode and is not changed.

    Args:
        batches: pairs (inputs, targets). The targets may be None without a loss.
        loss: see `predict_deletions`. It adds the rankings "predicted" and "curved".
        measured: change of a metric when each branch is deleted, in the order of the branches, or a table with a
            column `change`. It adds the ranking "measured".
        per: one vector per "token" or per "example"; "auto" is per token for (batch, tokens, features) and per example
            otherwise.
    Raises:
        ConfigError: if there are no batches, or the loss is neither a mean nor one number per example.
        ShapeError: if `measured` does not have one number per branch.
    Source:
        Men et al. 2024 (ShortGPT), Block Influence; Gromov et al. 2024, angular distance (of the last token of a text;
        here of all tokens); Jastrzębski et al. 2018, ratio.

    >>> from thruway.dissecting import dissect
    >>> from thruway.nn import Residual
    >>> turn = torch.nn.Linear(2, 2, bias=False)
    >>> _ = turn.weight.data.copy_(torch.tensor([[-1.0, -1.0], [1.0, -1.0]]))  # x + f(x) is x turned by 90 degrees
    >>> found = dissect(Residual(turn), torch.ones(1, 2)).rankings([(torch.tensor([[3.0, 0.0]]), None)])
    >>> [round(float(found.scores[name][0]), 6) for name in ("influence", "angle", "norm")]
    [1.0, 0.5, 4.242641]
    """
    loss_fn: LossFunction | None = None
    if loss is not None:
        loss_fn, batches = check_loss(loss, batches)
    sums = _Sums(len(engine.branches), per)
    orders, examples = np.zeros((2, len(engine.branches))), 0
    for inputs, targets in checked_batches(() if batches is None else batches):
        count = batch_size(inputs)
        if loss_fn is None:
            _pass(engine, inputs, sums)
        else:
            orders += slopes(engine, loss_fn, inputs, targets, count, sums.add)[1]
        sums.commit()
        examples += count
    if examples == 0:
        raise ConfigError(
            "there are no examples in the batches. Pass pairs (inputs, targets), with None as targets if there is no "
            "loss. An iterator can be used once only."
        )
    scores: dict[str, Floats] = {}
    if measured is not None:
        scores["measured"] = measured_changes(measured, len(engine.branches))
    if loss_fn is not None:
        scores["predicted"], scores["curved"] = orders[0] / examples, orders.sum(axis=0) / examples
    return Rankings(engine.branches, scores | sums.means(), sums.vectors)


class _Sums:
    """Running sums of the measures. The sums of a pass are added when it is complete, since a pass may be repeated."""

    def __init__(self, branches: int, per: Per) -> None:
        self._per: Per = per
        self._sums = np.zeros((len(MEASURES), branches))
        self._counts = np.zeros((len(MEASURES), branches), dtype=np.int64)
        self._latest: dict[int, tuple[Tensor, Tensor]] = {}
        self.vectors = np.zeros(branches, dtype=np.int64)

    def add(self, index: int, x: Tensor, y: Tensor) -> None:
        at = stream_change(x, y, self._per)
        numbers = torch.stack([measure.compute(at) for measure in MEASURES])
        known = numbers.isfinite()
        self._latest[index] = numbers.where(known, 0.0).sum(dim=1), known.sum(dim=1)

    def commit(self) -> None:
        for index, (total, known) in self._latest.items():
            self._sums[:, index] += total.cpu().numpy()
            self._counts[:, index] += known.cpu().numpy()
            self.vectors[index] = self._counts[:, index].max()
        self._latest.clear()

    def means(self) -> dict[str, Floats]:
        empty = np.full_like(self._sums, np.nan)
        means = np.divide(self._sums, self._counts, out=empty, where=self._counts > 0)
        return {measure.name: row for measure, row in zip(MEASURES, means, strict=True)}


def _pass(engine: Engine, inputs: Any, sums: _Sums) -> None:
    def make_hook(index: int) -> JoinHook:
        def hook(x: Tensor, y: Tensor) -> Tensor:
            sums.add(index, x, y)
            return y

        return hook

    with torch.no_grad():
        run_with_hooks(engine, {branch.index: make_hook(branch.index) for branch in engine.branches}, inputs)
