"""Choice of the seed that the figures show: nearest to the median escape, with the reason in the caption."""

import json
from dataclasses import replace

import pytest
from glorot_saturation_tiny import SATURATION, TINY, complete

from thruway.experiments.glorot2010 import saturation_page
from thruway.experiments.glorot2010.saturation_page import shown_seed
from thruway.runs import open_run


def rows(*escapes: int | None) -> list[dict[str, object]]:
    found: list[dict[str, object]] = [
        {"net": "sigmoid-4", "seed": seed, "escapes_at": at} for seed, at in enumerate(escapes)
    ]
    # What other nets do is of no account.
    return [*({"net": "sigmoid-5", "seed": seed, "escapes_at": 1} for seed in range(len(escapes))), *found]


CASES: dict[str, tuple[tuple[int | None, ...], int, str]] = {
    "the laptop run's": ((None, 37_000, 39_000), 2, "at update 39,000, nearest to the median; 2 of 3 leave it"),
    "all leave": ((10, 90, 40), 2, "at update 40, nearest to the median; 3 of 3 leave it"),
    "an even number": ((10, 90, 40, 50), 2, "at update 40, nearest to the median"),
    "most stay": ((None, 20, None, 30, None), 3, "at update 30, the last to do so, as most do not; 2 of 5 leave it"),
    "one leaves": ((None, None, 20), 2, "at update 20, the last to do so"),
    "none leaves": ((None, None), 0, "the first, as the sigmoid network of 4 layers leaves saturation in none of 2"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_seed_nearest_to_the_median_escape_is_shown(case: str) -> None:
    escapes, seed, why = CASES[case]
    shown = shown_seed(rows(*escapes), range(len(escapes)))
    assert shown.seed == seed
    assert shown.why.startswith(f"Seed {seed}: ")
    assert why in shown.why


def test_without_that_net_it_is_the_first() -> None:
    assert shown_seed([], [7, 8]) == (7, "Seed 7, the first of 2.")
    assert shown_seed(rows(5), [0]) == (0, "Seed 0, the only one.")


def test_the_report_shows_the_seed_and_says_why(tmp_path, monkeypatch) -> None:
    """In a tiny run nothing escapes, so the second seed's escape is made up; the curves are its own."""
    drawn = []
    over_time = saturation_page.over_time

    def with_an_escape(*given):
        return [
            row | {"escapes_at": 20} if (row["net"], row["seed"]) == ("sigmoid-4", 1) else row
            for row in SATURATION.rows(*given)
        ]

    monkeypatch.setattr(saturation_page, "over_time", lambda course: drawn.append(course.case) or over_time(course))
    folder = complete(tmp_path / "run", TINY)
    replace(SATURATION, rows=with_an_escape).report(open_run(folder), folder)
    assert [(case.name, case.seed) for case in drawn] == [(name, 1) for name in TINY.nets]
    page = (folder / "report.html").read_text()
    assert "Seed 1: its sigmoid network of 4 layers leaves saturation at update 20, the last to do so" in page
    assert "short of the ends. Seed 1." in page
    assert json.loads((folder / "summary.json").read_text())["rows"][0]["seed"] == 0  # all are in the summary
