"""Table 1 beside ours, with what is significant in it, and the SVM beside the net."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from thruway.experiments.glorot2010.errors import FIXED_PAIR, PAIRS, Config
from thruway.experiments.glorot2010.errors_significance import SIGNIFICANT, mcnemar, paired_t
from thruway.report import Cell, TableData

__all__ = ["PAPER", "choice_table", "error_table", "errors_of", "svm_table"]

Rows = Sequence[Mapping[str, Any]]
Rivals = Mapping[tuple[str, str], Sequence[int]]

PAPER: dict[str, dict[str, float]] = {
    "shapeset": {"softsign": 16.27, "softsign-n": 16.06, "tanh": 27.15, "tanh-n": 15.60, "sigmoid": 82.61},
    "mnist": {"softsign": 1.64, "softsign-n": 1.72, "tanh": 1.76, "tanh-n": 1.64, "sigmoid": 2.21},
    "cifar10": {"softsign": 55.78, "softsign-n": 53.8, "tanh": 55.9, "tanh-n": 52.92, "sigmoid": 57.28},
}
"""Glorot & Bengio 2010, Table 1: test error in percent, 5 hidden layers. Its Small-ImageNet is not public."""

_PAPER_SVM, _PAPER_NET = 59.47, 50.47  # sec. 5, percent, 100,000 Shapeset examples


def errors_of(rows: Rows, pair: str, depth: int) -> list[float]:
    """The test error of a pair at a depth, 0 to 1, by seed; NaN where the net diverged."""
    mine = [row for row in rows if (row["stage"], row["pair"], row["depth"]) == ("final", pair, depth)]
    return [row["test_error"] for row in sorted(mine, key=lambda row: row["seed"])]


def error_table(rows: Rows, rivals: Rivals, config: Config) -> TableData:
    """Every pair at the greatest depth: the paper's error, ours, whether the best is better by more than luck.

    Marked are the best of the five and those that cannot be told from it, as the paper prints them in bold.
    """
    errors: dict[str, list[float]] = {pair: errors_of(rows, pair, config.deepest) for pair in config.pairs}
    means = {pair: _mean(each) for pair, each in errors.items() if each}
    paper = PAPER.get(config.data, {})
    compared = {pair: mean for pair, mean in means.items() if not PAIRS[pair].is_pretrained}
    best = min(compared, key=lambda pair: compared[pair]) if compared else None
    lines = []
    for pair in means:
        p_examples = p_seeds = None
        if best is not None and pair != best:
            p_examples = _worst_p(rivals.get((best, pair), ()), rivals.get((pair, best), ()))
            p_seeds = _known(paired_t(errors[pair], errors[best]))
        is_best = pair in compared and (pair == best or (p_examples is not None and p_examples >= SIGNIFICANT))
        shown = _percent(means[pair])
        entry = Cell(None, "diverged") if shown is None else Cell(shown, "best") if is_best else shown
        lines.append((PAIRS[pair].title, paper.get(pair), entry, _spread(errors[pair]), p_examples, p_seeds))
    columns = ("pair", "paper, %", "here, %", "range, %", "p, examples", "p, seeds")
    caption = (
        f"N: normalized start. Test error with {config.deepest} hidden layers, mean of {config.seeds} "
        f"seed{'s' * (config.seeds != 1)}. "
        f"p: how likely a net as good as the best of the five falls so far behind it; by test examples (McNemar, the "
        f"largest of the seeds) and by seeds (paired t). Marked: the best, and what the examples do not tell from it "
        f"at p = {SIGNIFICANT}."
    )
    return TableData(columns, tuple(lines), caption)


def choice_table(rows: Rows, config: Config) -> TableData:
    """What validation chose for every pair, and the test error of its nets at that depth."""
    lines = []
    for pair in config.pairs:
        mine = [row for row in rows if (row["stage"], row["pair"]) == ("final", pair)]
        rates = {row["depth"]: row["learning_rate"] for row in mine}
        depth = next((row["depth"] for row in mine if row["is_chosen_depth"]), None)
        if depth is not None:
            error = _percent(_mean(errors_of(rows, pair, depth)))
            lines.append((PAIRS[pair].title, rates[max(rates)], depth, rates[depth], error))
    columns = ("pair", f"rate at depth {config.deepest}", "best depth", "rate there", "test error there, %")
    caption = "Chosen on validation examples. In the paper the best depth was 5 for all, but 4 for sigmoid."
    return TableData(columns, tuple(lines), caption)


def svm_table(rows: Rows, config: Config) -> TableData:
    """The error of the SVM and of the net on the fixed training set, per seed."""
    fixed = sorted((row for row in rows if row["stage"] == "fixed"), key=lambda row: row["seed"])
    is_paper = config.data == "shapeset"
    lines: list[tuple[Any, ...]] = []
    if fixed and fixed[0]["svm_error"] is not None:
        settings = f"C {fixed[0]['svm_cost']:g}, gamma {fixed[0]['svm_gamma']:g}"
        lines.append(
            ("SVM, Gaussian kernel", _PAPER_SVM if is_paper else None, _percent(fixed[0]["svm_error"]), settings)
        )
    for row in fixed:
        settings = f"rate {row['learning_rate']:g}, stopped after {row['updates']:,} updates"
        name = f"{PAIRS[FIXED_PAIR].title}, {row['depth']} layers, seed {row['seed']}"
        lines.append((name, _PAPER_NET if is_paper else None, _percent(row["test_error"]), settings))
    caption = (
        f"{config.fixed_examples:,} training examples here"
        + ("; 100,000 in the paper" if is_paper else "")
        + ". Gamma in units of 1 / (inputs x variance)."
    )
    return TableData(("learner", "paper, %", "test error, %", "chosen on validation"), tuple(lines), caption)


def _worst_p(only_best: Sequence[int], only_other: Sequence[int]) -> float | None:
    values = [mcnemar(first, second) for first, second in zip(only_best, only_other, strict=True)]
    return max(values) if values else None


def _mean(errors: Sequence[float]) -> float:
    """The mean over seeds; infinite if one diverged."""
    return math.inf if any(math.isnan(error) for error in errors) else statistics.fmean(errors)


def _spread(errors: Sequence[float]) -> str | None:
    known = [100 * error for error in errors if not math.isnan(error)]
    return f"{min(known):.2f} – {max(known):.2f}" if len(known) > 1 else None


def _percent(error: float) -> float | None:
    return round(100 * error, 2) if math.isfinite(error) else None


def _known(p: float) -> float | None:
    return None if math.isnan(p) else p
