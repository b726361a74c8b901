"""The verdicts that the README and results/README.md count are those of the recorded runs."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
STUDIES = sorted(path.parent.name for path in RESULTS.glob("*/summary.json"))

PAPERS = {
    "Glorot & Bengio 2010": "glorot2010",
    "Srivastava et al. 2015 (2 papers)": "highway2015",
    "Veit et al. 2016": "veit2016",
    "He et al. 2016": "he2016",
    "Zilly et al. 2017": "rhn2017",
    "Srivastava 2025": "srivastava2025",
}


def recorded(prefix):
    """Numbers of claims that hold, are unclear and fail in the studies whose folder begins with `prefix`."""
    verdicts = Counter(
        claim["verdict"]
        for study in STUDIES
        if study.startswith(prefix)
        for claim in json.loads((RESULTS / study / "summary.json").read_text())["claims"]
    )
    return [verdicts[verdict] for verdict in ("holds", "unclear", "fails")]


def counted(row):
    """The three numbers of a row of a table."""
    return [int(cell) for cell in re.findall(r"\| (\d+) (?=\|)", row)]


@pytest.mark.parametrize("study", STUDIES)
def test_the_verdicts_of_a_study_are_those_recorded(study):
    rows = [row for row in (RESULTS / "README.md").read_text().splitlines() if row.startswith("| [")]
    assert [counted(row) for row in rows if f"({study}/README.md)" in row] == [recorded(study)]


@pytest.mark.parametrize("paper", PAPERS)
def test_the_verdicts_of_a_paper_are_those_recorded(paper):
    rows = [row for row in (ROOT / "README.md").read_text().splitlines() if row.startswith(f"| {paper} |")]
    assert [counted(row) for row in rows] == [recorded(f"{PAPERS[paper]}.")]


def test_every_paper_has_its_row():
    assert {study.partition(".")[0] for study in STUDIES} == set(PAPERS.values())
