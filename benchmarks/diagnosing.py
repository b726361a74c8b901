"""Diagnosis of the labelled runs of tests/corpus: Thruway, torchmortem, and rules with fixed thresholds.

python -m benchmarks.diagnosing                            held-out seeds; writes benchmarks/diagnosing.md
python -m benchmarks.diagnosing --seeds 5 6 --write        the same for these seeds
python -m benchmarks.diagnosing --seeds 0 1 --only NAME    these seeds and diagnosers; prints the tables
python -m benchmarks.diagnosing --cases PATTERN --list     also lists every miss and every false alarm

torchmortem runs if it is installed: pip install torchmortem==0.1.1 into an environment of its own, with Thruway.
"""

import argparse
import functools
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import torch

from benchmarks import diagnosing_torchmortem
from benchmarks.diagnosing_scores import WIDEST_ONSET, Found, Judged, Score, as_rows, judge, score
from benchmarks.diagnosing_thresholds import TOOLS, by_thresholds
from tests.corpus import CASES, HELD_OUT_SEEDS, TUNING_SEEDS, Case, run
from thruway.watching import Trace

__all__ = ["DIAGNOSERS", "by_thruway", "evaluate"]


@dataclass(frozen=True)
class Watched:
    """A run of the corpus, watched once for all diagnosers of its trace."""

    case: Case
    seed: int

    @functools.cached_property
    def recorded(self) -> tuple[Trace, list[float]]:
        trace, losses = run(self.case, self.seed)
        assert trace is not None
        return trace, losses


def by_thruway(watched: Watched) -> list[Found]:
    """Return the primary findings of `thruway.diagnosing.diagnose`, which gets the trace alone."""
    from thruway.diagnosing import diagnose

    trace, _ = watched.recorded
    return [Found((f.rule,), tuple(f.sites), f.since) for f in diagnose(trace)]


DIAGNOSERS: dict[str, Callable[[Watched], list[Found]]] = {
    "Thruway": by_thruway,
    "torchmortem 0.1.1": lambda watched: diagnosing_torchmortem.by_torchmortem(watched.case, watched.seed),
    **{tool: functools.partial(lambda tool, watched: by_thresholds(tool, *watched.recorded), tool) for tool in TOOLS},
}


def missing(name: str) -> str | None:
    """Return why a diagnoser cannot run, or None if it can."""
    if name.startswith("torchmortem") and not diagnosing_torchmortem.is_installed():
        return "torchmortem is not installed"
    if name == "Thruway":
        try:
            import thruway.diagnosing  # noqa: F401
        except ImportError:
            return "thruway.diagnosing does not exist"
    return None


def _found(names: tuple[str, ...], job: tuple[str, int]) -> tuple[tuple[str, int], dict[str, "list[Found] | str"]]:
    """Run a case once and return the findings of each diagnoser, or the error that it raised."""
    torch.set_num_threads(1)
    watched = Watched(CASES[job[0]], job[1])
    found: dict[str, list[Found] | str] = {}
    for name in names:
        try:
            found[name] = DIAGNOSERS[name](watched)
        except Exception as error:  # one failing run must not end the benchmark; it is reported
            found[name] = f"{type(error).__name__}: {error}"
    return job, found


def evaluate(
    names: list[str], seeds: list[int], pattern: str = "*", processes: int = 1
) -> tuple[dict[str, list[Judged]], dict[str, list[str]]]:
    """Run the corpus and return, by diagnoser, the judgements and the errors of runs that failed."""
    jobs = [(name, seed) for name in CASES if fnmatchcase(name, pattern) for seed in seeds]
    judged: dict[str, list[Judged]] = {name: [] for name in names}
    errors: dict[str, list[str]] = {name: [] for name in names}
    work = functools.partial(_found, tuple(names))
    started = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for number, (job, found) in enumerate(pool.imap_unordered(work, jobs), 1):
            for name, one in found.items():
                if isinstance(one, str):
                    errors[name].append(f"{job[0]}/{job[1]}: {one}")
                else:
                    judged[name].append(judge(CASES[job[0]], job[1], one))
            if number % 50 == 0:
                print(f"{number} of {len(jobs)} runs, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return judged, errors


# Tables


def table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "| " + " | ".join(["---"] * len(head)) + " |"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


SUMMARY = ["diagnoser", "macro F1", "precision", "recall", "healthy runs with an alarm", "right layer", "right onset"]


def report(scores: dict[str, Score], absent: dict[str, str]) -> Iterator[str]:
    """Yield the lines of both tables."""
    yield from table(SUMMARY, as_rows(scores) + [[name, why, "", "", "", "", ""] for name, why in absent.items()])
    yield ""
    if not scores:
        return
    first = next(iter(scores))
    own = scores[first]
    head = ["symptom", "runs", f"{first}: precision", "recall", "F1", *(f"{n}: F1" for n in list(scores)[1:])]
    rows = []
    for symptom in own.symptoms:
        row = [f"`{symptom}`", str(own.hits[symptom] + own.misses[symptom])]
        row += [f"{f(symptom):.2f}" for f in (own.precision_of, own.recall_of, own.f1_of)]
        rows.append(row + [f"{s.f1_of(symptom):.2f}" for s in list(scores.values())[1:]])
    yield from table(head, rows)


def failures(judged: list[Judged]) -> Iterator[str]:
    """Yield a line for every miss, false alarm, wrong layer and wrong onset."""
    for one in sorted(judged, key=lambda j: (j.case.name, j.seed)):
        said = ", ".join(f"{'/'.join(f.rules)} at {', '.join(f.sites[:2]) or '-'} since {f.since}" for f in one.found)
        kinds = []
        if not one.case.is_healthy and not one.right:
            kinds.append("miss")
        if one.wrong or (one.case.is_healthy and one.found):
            kinds.append("false alarm")
        if one.right and one.case.sites and not one.has_right_site:
            kinds.append("layer")
        if one.right and not one.has_right_onset:
            kinds.append("onset")
        if kinds:
            wanted = "/".join(one.case.symptoms) or "healthy"
            yield f"{'+'.join(kinds):18s} {one.case.name}/{one.seed}: wanted {wanted}, got {said or 'nothing'}"


HEAD = """\
# Diagnosing

Written by `python -m benchmarks.diagnosing`: {runs} runs of {cases} cases ({healthy} of them healthy but tempting) of
`tests/corpus`, seeds {seeds}, which no rule was tuned on. Each label is proved by a float64 computation that does not
use `thruway.watching`.

A run with a label is a hit if one primary finding has an acceptable id; effects folded under their cause are not
counted. A primary finding that is neither acceptable nor a true effect is a false alarm. "Right layer" and "right
onset" are shares of the hits: the worst site is one of the layers at fault; the onset lies in the stated interval,
which is at most {widest} steps wide. Macro F1 is the mean over the symptoms. Thruway and the fixed thresholds read the
same trace, recorded at every step; torchmortem records its own. Names of other tools' findings are mapped to all ids
that they may stand for, and one that fits is enough.

torch {torch}, Python {python}.

"""


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, help=f"default: {HELD_OUT_SEEDS}; for tuning: {TUNING_SEEDS}")
    parser.add_argument("--only", nargs="+", choices=list(DIAGNOSERS), help="these diagnosers")
    parser.add_argument("--cases", default="*", help="pattern of the names of cases")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="write benchmarks/diagnosing.md, also for --seeds")
    parser.add_argument("--list", action="store_true", help="list misses and false alarms")
    chosen = parser.parse_args(arguments)
    if chosen.write and (chosen.only or chosen.cases != "*"):
        parser.error("--write needs all diagnosers and all cases.")
    names = chosen.only or list(DIAGNOSERS)
    seeds = chosen.seeds or list(HELD_OUT_SEEDS)
    absent = {name: why for name in names if (why := missing(name))}
    judged, errors = evaluate([n for n in names if n not in absent], seeds, chosen.cases, chosen.processes)
    scores = {name: score(found) for name, found in judged.items()}
    lines = list(report(scores, absent))
    for name, failed in errors.items():
        if failed:
            lines += ["", f"{name} failed in {len(failed)} runs, which are left out of its row. The first: {failed[0]}"]
    print("\n".join(lines))
    if chosen.list:
        for name, found in judged.items():
            print(f"\n{name}", *failures(found), *errors[name], sep="\n")
    if chosen.write or not (chosen.only or chosen.seeds or chosen.cases != "*"):
        head = HEAD.format(
            runs=len(CASES) * len(seeds),
            cases=len(CASES),
            healthy=sum(c.is_healthy for c in CASES.values()),
            seeds=" ".join(map(str, seeds)),
            widest=WIDEST_ONSET,
            torch=torch.__version__,
            python=sys.version.split()[0],
        )
        Path(__file__).with_suffix(".md").write_text(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
