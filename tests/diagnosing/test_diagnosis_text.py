"""print(diagnosis): width, height, order and numbers; the lines for a trace's summary; JSON."""

import json
import math

import pytest
from drawn_traces import HOSTILE, diagnosis_of, finding_of, layered_trace

from thruway.diagnosing import SYMPTOMS, Cure, Diagnosis, Evidence, Finding
from thruway.diagnosing.notebook import diagnosis_html
from thruway.diagnosing.text import findings_lines

LONG = "the gradient shrinks by a factor of 0.16 a layer because the slope of a sigmoid is at most a quarter; " * 12


@pytest.fixture(scope="module")
def trace():
    return layered_trace()


def fullest(trace):
    """A finding with more of everything than fits on a screen."""
    evidence = tuple(
        Evidence("std", "hidden.0", 20, 2.4e-14, f"{role}: {LONG}", role, 1.0, 1e-3)
        for role in ("threshold", "theory", "ruled out", "context")
    )
    effects = tuple(finding_of(rule, trace) for rule in SYMPTOMS)
    cures = tuple(Cure(f"c{i}", LONG, LONG) for i in range(5))
    return Finding(
        "vanishing_gradient",
        LONG,
        ("x" * 150,) * 9,
        since=(19, 20),
        evidence=evidence,
        cures=cures,
        span=("y" * 150, "z" * 150),
        effects=effects,
    )


@pytest.mark.parametrize("count", [1, 2])
def test_the_text_is_one_screen(trace, count):
    diagnosis = Diagnosis((fullest(trace),) * count, dict.fromkeys(SYMPTOMS, LONG), trace)
    lines = repr(diagnosis).split("\n")
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    # What matters most survives: of each finding its rule, cause, measured and expected number, and a cure.
    labels = ("measured", "theory", "ruled out", "try", "effects")
    for label in labels:
        assert sum(line.startswith((f"   {label} ", f"   {label.rstrip('s')} ")) for line in lines) >= count, label


@pytest.mark.parametrize("rule", SYMPTOMS)
def test_every_symptom_is_a_screen(trace, rule):
    lines = repr(diagnosis_of([rule], trace)).split("\n")
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    assert lines[2].startswith(f"1. {rule}: ")


def test_the_numbers_are_those_of_the_evidence(trace):
    text = repr(diagnosis_of(["exploding_gradient"], trace))
    assert "Diagnosis of Net: 1 cause and 2 effects in 60 recorded steps (0 to 59)" in text
    assert "since step 20 (not yet at step 19); hidden.0 to hidden.7 (worst: hidden.0); confidence 93%" in text
    assert "measured    the std of hidden.0 is large: 7.5 (expected 1, limit 3)" in text
    assert "theory      growth per layer: 1.41 (expected 1.38)" in text
    assert "ruled out   52 % of the values are 0, as ReLU has it (limit 0.9)" in text
    assert "effect      dead_units since step 20, hidden.16.relu to hidden.23.relu" in text
    assert text.index("measured") < text.index("theory") < text.index("ruled out") < text.index("try")


def test_a_healthy_trace_says_so_and_what_was_not_seen(trace):
    lines = repr(Diagnosis((), {"dead_units": "not recorded: dead_units of outputs."}, trace)).split("\n")
    assert lines == [
        "Diagnosis of Net: healthy, nothing was found in 60 recorded steps (0 to 59)",
        "Not seen: dead_units (not recorded: dead_units of outputs)",
    ]


def test_what_a_finding_names_is_not_called_unseen(trace):
    diagnosis = Diagnosis((finding_of("diverging", trace),), {"diverging": "no loss", "lr_too_low": "no loss"}, trace)
    assert repr(diagnosis).split("\n")[-1] == "Not seen: lr_too_low (no loss)"


def test_many_findings_are_listed_in_one_line_each(trace):
    lines = repr(diagnosis_of(list(SYMPTOMS), trace)).split("\n")
    assert max(map(len, lines)) <= 100
    assert [line.split()[1] for line in lines if line.startswith(("3. ", "8. "))] == [
        list(SYMPTOMS)[2],
        list(SYMPTOMS)[7],
    ]
    assert any(line.startswith("and 13 other findings: ") for line in lines)


def test_the_lines_for_a_summary(trace):
    assert findings_lines(Diagnosis((), {}, trace)) == ["no findings"]
    lines = findings_lines(diagnosis_of(["poor_init", "diverging", "saturated", "lr_too_low"], trace), 2)
    assert [line[:12] for line in lines] == ["1. poor_init", "2. diverging", "and 2 other "]
    assert max(map(len, lines)) <= 100


def hostile():
    trace = layered_trace(6, 30, model=HOSTILE, prefix=f"{HOSTILE}.")
    finding = finding_of("vanishing_gradient", trace)
    bad = Evidence(HOSTILE, HOSTILE, 1, math.nan, HOSTILE, "threshold", math.inf, -math.inf)
    changed = {"evidence": (bad,), "cures": (Cure(HOSTILE, HOSTILE, HOSTILE),), "cause": HOSTILE, "rule": HOSTILE}
    return Diagnosis((Finding(**{**vars(finding), **changed, "margin": math.inf}),), {HOSTILE: HOSTILE}, trace)


def test_names_cannot_break_lines_or_control_a_terminal():
    evil = Finding(
        "x\x1b[2J", "one\ntwo\x07", ("a\nb",), since=(None, 0), evidence=(Evidence("q", "s\n", 0, 1.0, "t\n\x1b"),)
    )
    text = repr(Diagnosis((evil,), {"u\n": "v\x1b"}, layered_trace(3, 2)))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "one two" in text


def test_notebook_views_are_escaped_and_have_no_scripts():
    text = diagnosis_html(hostile())
    assert "<img" not in text
    assert "<script" not in text
    assert "&lt;img src=x" in text


def test_the_notebook_view_has_the_numbers(trace):
    text = diagnosis_html(diagnosis_of(["exploding_gradient"], trace))
    assert "the std of hidden.0 is large: 7.5 (expected 1, limit 3)" in text
    assert "growth per layer: 1.41 (expected 1.38)" in text
    assert "Schoenholz et al. 2017" in text
    assert "effective_rank" in text  # what was not seen, with its reason


def test_json_is_strict():
    def refuse(constant):
        raise AssertionError(constant)

    content = json.loads(hostile().to_json(), parse_constant=refuse)
    assert content["findings"][0]["evidence"][0]["value"] is None
    assert content["findings"][0]["margin"] is None


def test_a_finding_needs_its_first_step():
    with pytest.raises(TypeError, match="since"):
        Finding("mine", "a cause")
