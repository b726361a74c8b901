"""Scores of the diagnosis benchmark, on findings with known answers; its rules, on traces with known faults."""

import dataclasses

import pytest

from benchmarks import diagnosing, diagnosing_torchmortem
from benchmarks.diagnosing_scores import Found, Judged, as_rows, is_right_onset, is_right_site, judge, score
from benchmarks.diagnosing_thresholds import TOOLS, by_thresholds
from tests.corpus import CASES, run

SICK = dataclasses.replace(
    CASES["mlp_dead_layer"], symptoms=("dead_units", "dying_relu"), also=frozenset(("lr_too_low",)), sites=("4", "5")
)
HEALTHY = CASES["mlp_relu"]


def found(*rules: str, sites: tuple[str, ...] = ("5",), since: tuple[int | None, int] | None = (None, 0)) -> Found:
    return Found(rules, sites, since)


def judged(*findings: Found) -> Judged:
    return judge(SICK, 0, findings)


def test_acceptable_ids_are_hits_of_the_first_one() -> None:
    total = score([judged(found("dying_relu")), judged(found("dead_units"), found("dying_relu")), judged()])
    assert (total.hits["dead_units"], total.misses["dead_units"], total.hits["dying_relu"]) == (2, 1, 0)
    assert (total.right_findings, total.wrong_findings) == (3, 0)
    assert total.recall_of("dead_units") == pytest.approx(2 / 3)
    assert total.macro_f1 == total.f1_of("dead_units") == pytest.approx(2 * 2 / (2 * 2 + 1))


def test_wrong_findings_count_once_per_id_and_effects_not_at_all() -> None:
    total = score(
        [judged(found("dead_units"), found("saturated"), found("saturated", sites=("1",)), found("lr_too_low"))]
    )
    assert total.false_alarms == {"saturated": 1}
    assert total.precision == pytest.approx(1 / 2)
    assert total.f1_of("dead_units") == 1.0


def test_any_finding_accuses_a_healthy_run() -> None:
    total = score([judge(HEALTHY, 3, [found("lr_too_low")]), judge(HEALTHY, 4, [])])
    assert (total.healthy_with_alarm, total.healthy_runs, total.accused) == (1, 2, ["mlp_relu/3"])
    assert total.false_alarms == {"lr_too_low": 1}


def test_a_mapped_finding_needs_one_fitting_id() -> None:
    one = judged(found("vanishing_gradient", "dead_units"))
    assert one.right
    assert not one.wrong
    total = score([judged(found("vanishing_gradient", "saturated"))])
    assert total.false_alarms == {"vanishing_gradient": 1}


def test_layer_and_onset_are_asked_of_hits_only() -> None:
    total = score([judged(found("dead_units", since=(2, 5))), judged(found("dead_units", sites=("0",))), judged()])
    assert (total.sites_right, total.sites_asked, total.onsets_right, total.onsets_asked) == (1, 2, 1, 2)
    assert as_rows({"x": total})[0][-2:] == ["0.50", "0.50"]


def test_sites_match_patterns() -> None:
    assert is_right_site(["features.4.weight"], ["features.4"])
    assert is_right_site(["cell.gate#7"], ["cell*"])
    assert not is_right_site(["features.40"], ["features.4"])
    assert not is_right_site([], ["*"])


def test_onsets_are_intervals_of_limited_width() -> None:
    assert is_right_onset((None, 0), (0, 0))
    assert is_right_onset((10, 20), (15, 17))
    assert not is_right_onset((10, 21), (15, 17))  # wider than ten steps
    assert not is_right_onset((17, 18), (15, 17))
    assert not is_right_onset((3, 14), (15, 17))
    assert not is_right_onset(None, (0, 0))


@pytest.mark.parametrize(
    ("tool", "case", "expected"),
    [
        ("SageMaker rules", "mlp_missing_value_in_a_batch", ("nan_or_inf",)),
        ("AutoTrainer rules", "mlp_deep_sigmoid_adam", ("vanishing_gradient",)),
        ("TheDeepChecker rules", "mlp_bytes_as_inputs", ("unscaled_input",)),
        ("rules of thumb", "mlp_sgd_100_times_too_fast", ("lr_too_high",)),
        ("rules of thumb", "mlp_dead_layer", ("dead_units", "dying_relu")),
    ],
)
def test_thresholds_find_what_they_describe(tool: str, case: str, expected: tuple[str, ...]) -> None:
    trace, losses = run(CASES[case], 0)
    assert expected in [f.rules for f in by_thresholds(tool, trace, losses)]


def test_thresholds_are_silent_below_them() -> None:
    """A linear model that learns slowly and steadily is below the thresholds of half the rules at least."""
    trace, losses = run(CASES["mlp_linear_model"], 0)
    silent = {tool: len(rules) - len(by_thresholds(tool, trace, losses)) for tool, rules in TOOLS.items()}
    assert all(count >= len(TOOLS[tool]) / 2 for tool, count in silent.items()), silent


def test_a_threshold_has_its_first_step() -> None:
    trace, losses = run(CASES["mlp_missing_value_in_a_batch"], 0)
    (one,) = [f for f in by_thresholds("SageMaker rules", trace, losses) if f.rules == ("nan_or_inf",)]
    assert one.since == (10, 11)
    assert one.sites[0] == "0"


def test_a_tool_that_is_not_installed_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosing_torchmortem, "is_installed", lambda: False)
    assert diagnosing.missing("torchmortem 0.1.1") == "torchmortem is not installed"
    lines = list(diagnosing.report({}, {"torchmortem 0.1.1": "torchmortem is not installed"}))
    assert "torchmortem is not installed" in lines[2]


def test_titles_of_torchmortem_have_a_meaning() -> None:
    assert diagnosing_torchmortem.meaning("Dead units in net.3")[0] == "dead_units"
    with pytest.raises(KeyError, match="without a meaning"):
        diagnosing_torchmortem.meaning("Something new")


def test_a_diagnosis_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_watched: diagnosing.Watched) -> list[Found]:
        raise ValueError("no")

    monkeypatch.setitem(diagnosing.DIAGNOSERS, "Thruway", broken)
    _, answers = diagnosing._found(("Thruway",), ("mlp_relu", 0))
    assert answers == {"Thruway": "ValueError: no"}
