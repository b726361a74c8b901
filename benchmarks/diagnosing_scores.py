"""Scores of a diagnoser on the labelled runs of tests/corpus: pure functions of labels and findings."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from tests.corpus import SYMPTOMS, Case

__all__ = ["WIDEST_ONSET", "Found", "Judged", "Score", "is_right_onset", "is_right_site", "judge", "score"]

WIDEST_ONSET = 10  # steps; a wider answer to "since when" is not counted


@dataclass(frozen=True)
class Found:
    """One primary finding of a diagnoser.

    Attributes:
        rules: our ids that the finding may stand for, the best first. Thruway's findings have one; names of other tools
            are mapped to all that they may mean.
        sites: names of modules or parameters, worst first.
        since: (last step without or None, first step with), or None if the tool does not say.
    """

    rules: tuple[str, ...]
    sites: tuple[str, ...] = ()
    since: tuple[int | None, int] | None = None


@dataclass(frozen=True)
class Judged:
    """The findings of one run, compared with its label."""

    case: Case
    seed: int
    found: tuple[Found, ...]
    right: tuple[Found, ...]
    wrong: tuple[Found, ...]  # neither an acceptable primary finding nor a true effect

    @property
    def has_alarm(self) -> bool:
        return bool(self.found)

    @property
    def has_right_site(self) -> bool:
        return any(is_right_site(f.sites, self.case.sites) for f in self.right)

    @property
    def has_right_onset(self) -> bool:
        return any(is_right_onset(f.since, self.case.onset) for f in self.right)


@dataclass
class Score:
    """Counts over runs, and the usual ratios.

    A run with a label counts as a hit if one primary finding has an acceptable id, else as a miss; both are counted
    under the first acceptable id. A finding that is neither acceptable nor a true effect counts as a false alarm under
    its own id.
    """

    hits: Counter[str] = field(default_factory=Counter)
    misses: Counter[str] = field(default_factory=Counter)
    false_alarms: Counter[str] = field(default_factory=Counter)
    right_findings: int = 0
    wrong_findings: int = 0
    healthy_runs: int = 0
    healthy_with_alarm: int = 0
    accused: list[str] = field(default_factory=list)
    sites_right: int = 0
    sites_asked: int = 0
    onsets_right: int = 0
    onsets_asked: int = 0

    @property
    def symptoms(self) -> list[str]:
        """Symptoms that some run has, in the order of the issue's list."""
        return [s for s in SYMPTOMS if self.hits[s] + self.misses[s]]

    def precision_of(self, symptom: str) -> float:
        reported = self.hits[symptom] + self.false_alarms[symptom]
        return self.hits[symptom] / reported if reported else 0.0

    def recall_of(self, symptom: str) -> float:
        return self.hits[symptom] / (self.hits[symptom] + self.misses[symptom])

    def f1_of(self, symptom: str) -> float:
        hits, wrong = self.hits[symptom], self.misses[symptom] + self.false_alarms[symptom]
        return 2 * hits / (2 * hits + wrong) if hits else 0.0

    @property
    def macro_f1(self) -> float:
        return sum(map(self.f1_of, self.symptoms)) / max(1, len(self.symptoms))

    @property
    def precision(self) -> float:
        return self.right_findings / max(1, self.right_findings + self.wrong_findings)

    @property
    def recall(self) -> float:
        return self.hits.total() / max(1, self.hits.total() + self.misses.total())


def is_right_site(sites: Sequence[str], patterns: Sequence[str]) -> bool:
    """Return True if the worst site, or a module that contains it, matches a pattern.

    >>> is_right_site(["net.4.weight", "net.6"], ["net.4"]), is_right_site(["cell#3"], ["cell"])
    (True, True)
    >>> is_right_site(["net.6", "net.4"], ["net.4"])
    False
    """
    if not sites:
        return False
    name, _, _ = sites[0].partition("#")
    parts = name.split(".")
    names = [sites[0], *(".".join(parts[: n + 1]) for n in range(len(parts)))]
    return any(fnmatchcase(n, pattern) for n in names for pattern in patterns)


def is_right_onset(since: tuple[int | None, int] | None, onset: tuple[int, int]) -> bool:
    """Return True if the onset lies after the last step without and up to the first step with the symptom.

    >>> is_right_onset((None, 0), (0, 0)), is_right_onset((3, 8), (7, 7)), is_right_onset((8, 9), (7, 7))
    (True, True, False)
    """
    if since is None:
        return False
    last = -1 if since[0] is None else since[0]
    return since[1] - last <= WIDEST_ONSET and last < onset[1] and onset[0] <= since[1]


def judge(case: Case, seed: int, found: Iterable[Found]) -> Judged:
    """Compare findings with the label of a case."""
    found = tuple(found)
    right = tuple(f for f in found if set(f.rules) & case.accepted)
    wrong = tuple(f for f in found if not set(f.rules) & (case.accepted | case.also))
    return Judged(case, seed, found, right, wrong)


def score(judged: Iterable[Judged]) -> Score:
    """Add up the judgements."""
    total = Score()
    for one in judged:
        case = one.case
        if case.is_healthy:
            total.healthy_runs += 1
            total.healthy_with_alarm += one.has_alarm
            if one.has_alarm:
                total.accused.append(f"{case.name}/{one.seed}")
        else:
            (total.hits if one.right else total.misses)[case.symptoms[0]] += 1
            if one.right:
                total.onsets_asked += 1
                total.onsets_right += one.has_right_onset
            if one.right and case.sites:
                total.sites_asked += 1
                total.sites_right += one.has_right_site
        # Several findings with one id are one statement.
        total.right_findings += len({f.rules for f in one.right})
        wrong = {f.rules for f in one.wrong}
        total.wrong_findings += len(wrong)
        total.false_alarms.update(rules[0] for rules in wrong)
    return total


def as_rows(scores: Mapping[str, Score]) -> list[list[str]]:
    """Return one row per diagnoser with the numbers of the summary table."""
    rows = []
    for name, s in scores.items():
        sites = f"{s.sites_right / s.sites_asked:.2f}" if s.sites_asked else "-"
        onsets = f"{s.onsets_right / s.onsets_asked:.2f}" if s.onsets_asked else "-"
        healthy = f"{s.healthy_with_alarm} of {s.healthy_runs}"
        rows.append([name, f"{s.macro_f1:.2f}", f"{s.precision:.2f}", f"{s.recall:.2f}", healthy, sites, onsets])
    return rows
