"""Folding of findings: which one is the cause, which the effect."""

from thruway.diagnosing import Finding, Rule
from thruway.diagnosing.folding import fold_effects


def nothing(_reading):
    yield from ()


def rules(**explained):
    """Return rules by name; each value is the names of the effects, or of these and `effects_begin`."""
    table = {}
    for name, what in explained.items():
        effects, begin = what if isinstance(what, tuple) else (what, "same step")
        table[name] = Rule(name, nothing, explains=frozenset(effects.split()), effects_begin=begin)
    return table


def found(rule, onset=0, confidence=0.9):
    return Finding(rule, rule, since=(onset - 1 if onset else None, onset), confidence=confidence)


def shape(findings):
    """Return the rules as nested tuples (rule, *effects)."""
    return [(f.rule, *shape(f.effects)) for f in findings]


def test_an_effect_begins_no_earlier_than_its_cause():
    table = rules(cause="effect", effect="")
    assert shape(fold_effects([found("effect", 3), found("cause", 3)], table)) == [("cause", ("effect",))]
    assert shape(fold_effects([found("effect", 2), found("cause", 3)], table)) == [("effect",), ("cause",)]


def test_what_an_update_does_begins_in_the_next_step():
    table = rules(cause=("effect", "next step"), effect="")
    assert sorted(shape(fold_effects([found("effect", 3), found("cause", 3)], table))) == [("cause",), ("effect",)]
    assert shape(fold_effects([found("effect", 4), found("cause", 3)], table)) == [("cause", ("effect",))]


def test_an_exact_symptom_may_be_seen_after_its_effects():
    table = rules(cause=("effect", "any step"), effect="")
    assert shape(fold_effects([found("effect", 0), found("cause", 5)], table)) == [("cause", ("effect",))]


def test_a_chain_of_causes_has_one_root():
    table = rules(root="middle", middle="leaf", leaf="")
    findings = [found("leaf", 2), found("middle", 1), found("root", 0)]
    assert shape(fold_effects(findings, table)) == [("root", ("middle", ("leaf",)))]


def test_the_nearest_of_several_causes_is_taken():
    table = rules(early="leaf", late="leaf", leaf="")
    findings = [found("early", 0), found("late", 4), found("leaf", 5)]
    assert shape(fold_effects(findings, table)) == [("early",), ("late", ("leaf",))]


def test_of_two_that_could_cause_each_other_the_earlier_or_surer_is_the_cause():
    table = rules(a="b", b="a")
    assert shape(fold_effects([found("a", 1), found("b", 0)], table)) == [("b", ("a",))]
    assert shape(fold_effects([found("a", 0, 0.5), found("b", 0, 0.8)], table)) == [("b", ("a",))]


def test_a_circle_of_causes_keeps_every_finding_once():
    table = rules(a="b", b="c", c="a")
    folded = fold_effects([found("a"), found("b"), found("c")], table)
    assert len(folded) == 1
    assert str(shape(folded)).count("'") == 6


def test_roots_come_by_onset_and_then_by_confidence():
    table = rules(a="", b="", c="")
    findings = [found("a", 2), found("b", 0, 0.5), found("c", 0, 0.9)]
    assert shape(fold_effects(findings, table)) == [("c",), ("b",), ("a",)]


def test_findings_of_unknown_rules_stay():
    assert shape(fold_effects([found("mine")], {})) == [("mine",)]
