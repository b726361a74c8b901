"""The report of a diagnosis: what stands where, escaping, sizes, and the page in a browser."""

import json
import math
import re

import numpy as np
import pytest
import torch
from browser import CHROMIUM, chromium
from drawn_traces import HOSTILE, diagnosis_of, finding_of, layered_trace, made_prescription
from sample_report import HOSTILE as WORSE
from torch import nn

from thruway import watch
from thruway.diagnosing import SYMPTOMS, Cure, Diagnosis, Evidence, Finding, diagnose
from thruway.diagnosing.page import diagnosis_page, write_report
from thruway.diagnosing.prescribing import prescribe
from thruway.diagnosing.tried import best_sentence, prescription_card
from thruway.report import Card, CardCode, CardFigure, Section, render_page
from thruway.report.page import plotly_bundle

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def trace():
    return layered_trace()


def tables_of(card):
    return {part[0]: part[1] for part in card.parts if isinstance(part, tuple)}


def figures_of(card):
    return {part.title: part.figure for part in card.parts if isinstance(part, CardFigure)}


def test_a_card_has_the_facts_evidence_cures_and_effects(trace):
    page = diagnosis_page(diagnosis_of(["exploding_gradient"], trace))
    card, unseen = page.sections
    assert page.title == "The gradient explodes on its way to the first layers"
    assert page.lead.startswith("A made-up cause of exploding gradient")
    assert card.kicker == "exploding_gradient"
    assert card.title == "hidden.0 to hidden.7, since step 20"
    assert card.facts == {
        "Where": "hidden.0 to hidden.7 (worst: hidden.0)",
        "When": "since step 20 (not yet at step 19)",
        "Over the limit": "2.5 times",
    }
    assert [text for text, _ in card.chips] == ["cause", "confidence 93%"]
    tables = tables_of(card)
    assert tables["Evidence"].rows[0] == ("decisive", "the std of hidden.0 is large", 7.5, 1.0, 3.0, "hidden.0", 20)
    assert [row[0].replace("\N{NO-BREAK SPACE}", " ") for row in tables["Evidence"].rows] == [
        "decisive",
        "theory",
        "ruled out",
        "context",
    ]
    assert [row[0] for row in tables["What follows from it"].rows] == ["dead_units", "lr_too_low"]
    assert list(figures_of(card)) == ["Gradient, layer by layer", "Gradient over depth", "The loss"]
    assert [row[0] for row in unseen.table.rows] == ["rank_collapse", "gates_shut"]


def test_causes_come_first_then_the_cures_then_what_was_not_seen(trace):
    page = diagnosis_page(diagnosis_of(list(SYMPTOMS), trace), made_prescription())
    kickers = [section.kicker for section in page.sections if isinstance(section, Card)]
    assert kickers == [*SYMPTOMS, "prescription"]
    assert page.title == "21 causes found"
    assert all(figures_of(section) for section in page.sections if isinstance(section, Card))


def test_a_healthy_run_shows_its_numbers_and_marks_nothing(trace):
    page = diagnosis_page(Diagnosis((), {"gates_shut": "the model has no gates"}, trace))
    card, unseen = page.sections
    assert page.title == "Nothing was found"
    assert isinstance(unseen, Section)
    figures = figures_of(card)
    assert list(figures) == ["Gradient over depth", "Outputs over depth", "The loss"]
    assert all(not figure.layout.shapes for figure in figures.values())
    assert "marked" not in re.search(r'<section class="card[^"]*"', render_page(page))[0]


def test_the_provenance_says_what_was_read(trace):
    facts = diagnosis_page(Diagnosis((), {}, trace)).provenance
    assert facts["trace"] == "60 recorded steps (0 to 59), 73 outputs, 73 gradients, 24 parameters"
    assert "thruway" in facts["versions"]


# --- cures that were tried


def test_curves_and_intervals_are_the_measured_ones():
    tried = made_prescription()
    card = prescription_card(tried)
    figures = figures_of(card)
    curves = {
        each.name: each for each in figures["Loss with each cure"].data if each.fill is None and each.x[0] is not None
    }
    assert set(curves) == {"skip", "relu", "raise_lr", "no change", "placebo (gate_bias)"}
    np.testing.assert_allclose(curves["skip"].y, tried.best.curves.mean(0), rtol=1e-12)
    np.testing.assert_equal(np.isnan(curves["raise_lr"].y), [False] * 4 + [True] * 7)  # it diverged
    helps, others = figures["Loss gained by each cure"].data
    assert list(helps.y) == ["skip"]
    assert list(helps.x) == [tried.best.gain]
    low, high = tried.best.interval
    np.testing.assert_allclose(
        [helps.x[0] - helps.error_x.arrayminus[0], helps.x[0] + helps.error_x.array[0]], [low, high]
    )
    assert list(others.y) == ["relu", "raise_lr", "placebo (gate_bias)"]
    ends = [others.x[1] - others.error_x.arrayminus[1], others.x[1] + others.error_x.array[1]]
    assert ends == pytest.approx([-1, 1])  # an interval without ends
    rows = {row[0]: row for row in tables_of(card)["All cures"].rows}
    assert rows["skip"][1].value == tried.best.gain
    assert rows["skip"][4] == sorted(tried.best.final)[1]
    assert rows["logits"][5] == "not applicable: no softmax at the end"
    assert any(isinstance(part, CardCode) and "Residual" in part.text for part in card.parts)


def test_the_page_says_if_no_cure_helps(trace):
    tried = made_prescription()
    none = type(tried)(tried.ranking, None, tried.no_change, tried.placebo)
    assert best_sentence(none) == "None of the cures that were tried helps."
    page = diagnosis_page(diagnosis_of(["poor_init"], trace), none)
    assert page.lead.endswith("None of the cures that were tried helps.")
    assert prescription_card(none).chips[0] == ("none helps", "unclear")
    empty = type(tried)((), None, None, None)
    assert prescription_card(empty) is None
    assert len(diagnosis_page(diagnosis_of(["poor_init"], trace), empty).sections) == 2


# --- hostile, empty and large


def hostile():
    trace = layered_trace(6, 30, model=WORSE, prefix=f"{HOSTILE}{WORSE}.")
    finding = finding_of("vanishing_gradient", trace)
    bad = Evidence(WORSE, WORSE, 1, math.nan, WORSE, "threshold", math.inf, -math.inf)
    changed = {"evidence": (bad,), "cures": (Cure(WORSE, WORSE, WORSE),), "cause": WORSE}
    first = Finding(**{**vars(finding), **changed, "effects": (Finding(**{**vars(finding), "rule": WORSE}),)})
    states = finding_of("frozen_parameters", trace)
    return Diagnosis(
        (first, states, Finding(WORSE, WORSE, (WORSE,), since=(None, 0), evidence=(bad,))), {WORSE: WORSE}, trace
    )


def test_names_are_escaped(tmp_path):
    text = hostile().report(tmp_path / "report.html").read_text()
    assert "<img" not in text
    assert text.count("</script>") == text.count("<script")


def test_a_page_of_one_step_and_one_of_nothing(tmp_path):
    one = layered_trace(8, 1)
    for rules in (list(SYMPTOMS), []):
        assert diagnosis_of(rules, one).report(tmp_path / "one.html").stat().st_size > 10_000
    bare = Diagnosis((Finding("mine", "a cause", since=(None, 0)),), {}, one)
    assert "a cause" in bare.report(tmp_path / "bare.html").read_text()


def test_a_thousand_layers_and_two_thousand_steps_are_a_small_page(tmp_path):
    trace = layered_trace(333, 2000)  # 1,000 outputs
    diagnosis = diagnosis_of(["exploding_gradient", "saturated", "lr_too_high", "nan_or_inf"], trace)
    size = diagnosis.report(tmp_path / "large.html").stat().st_size
    assert size - len(plotly_bundle()) < 5e6


def test_figures_are_strict_json(trace, tmp_path):
    """Browsers do not read NaN."""

    def refuse(constant):
        raise AssertionError(constant)

    text = write_report(diagnosis_of(["nan_or_inf", "frozen_parameters"], trace), tmp_path / "r.html").read_text()
    scripts = re.findall(r'<script type="application/json" id="[^"]*">(.*?)</script>', text, flags=re.DOTALL)
    assert len(scripts) >= 5
    for script in scripts:
        json.loads(script, parse_constant=refuse)


# --- in a browser

STICKING_OUT = (
    "[...document.querySelectorAll('body *')].filter(e => !e.closest('.table-box table, pre') && "
    "!e.matches('defs *') && e.getBoundingClientRect().right > innerWidth + 1).length"
)


@pytest.fixture(scope="module")
def tab():
    with chromium() as browser:
        yield browser


def open_quietly(tab, page):
    """Open the page and check that nothing is requested and nothing is reported; images of cells are data in it."""
    tab.requests.clear()
    tab.complaints.clear()
    tab.open(page)
    tab.wait("Number(document.documentElement.dataset.drawn ?? 0) > 0 || document.querySelector('.problem')")
    assert tab.complaints == []
    assert [each for each in tab.requests if not each.startswith("data:")] == [page.resolve().as_uri()]


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_a_page_of_every_symptom_opens_quietly_and_fits(tab, trace, tmp_path, scheme, width):
    page = write_report(diagnosis_of(list(SYMPTOMS), trace), tmp_path / "all.html", made_prescription())
    tab.shape(scheme, width, 900)
    open_quietly(tab, page)
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.evaluate(STICKING_OUT) == 0
    drawn = tab.evaluate("document.querySelectorAll('.plot .main-svg').length")
    assert drawn >= 2 * len(SYMPTOMS)
    side_by_side = tab.evaluate(
        "[...document.querySelectorAll('.picture:not(.wide)')].slice(0, 2).map(e => e.getBoundingClientRect().top)"
    )
    assert (side_by_side[0] == side_by_side[1]) == (width > 700)


@pytest.mark.slow
@needs_chromium
def test_wide_tables_scroll_in_their_box_with_a_shadow(tab, trace, tmp_path):
    page = diagnosis_of(["exploding_gradient"], trace).report(tmp_path / "r.html")
    tab.shape("light", 390, 900)
    open_quietly(tab, page)
    assert tab.evaluate(
        "(() => { const b = document.querySelector('.table-box'); return b.scrollWidth > b.clientWidth; })()"
    )
    image = tab.evaluate("getComputedStyle(document.querySelector('.table-box')).backgroundAttachment")
    assert image == "local, local, scroll, scroll"


@pytest.mark.slow
@needs_chromium
def test_hostile_names_are_shown_as_they_are(tab, tmp_path):
    tab.shape("light", 1280, 900)
    open_quietly(tab, hostile().report(tmp_path / "r.html"))
    assert tab.evaluate("document.querySelectorAll('img, a[href^=javascript]').length") == 0
    assert tab.evaluate("document.querySelectorAll('.plot .main-svg').length") > 0


# --- of a real run


@pytest.mark.slow
def test_the_report_of_a_real_run_and_its_cures(tmp_path):
    torch.manual_seed(0)
    weights = torch.randn(16, 4)
    batches = [(x := torch.randn(32, 16), (x @ weights).argmax(1)) for _ in range(20)]

    def build():
        layers = [layer for _ in range(12) for layer in (nn.Linear(16, 16), nn.Sigmoid())]
        return nn.Sequential(*layers, nn.Linear(16, 4))

    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer=optimizer) as trace:
        for x, y in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    diagnosis = diagnose(trace)
    assert [finding.rule for finding in diagnosis] == ["vanishing_gradient"]
    tried = prescribe(build, batches, diagnosis, loss=nn.functional.cross_entropy, steps=20, seeds=2, progress=False)
    text = diagnosis.report(tmp_path / "r.html", tried).read_text()
    assert "theory, for the measured weights" in text
    card = prescription_card(tried)
    curves = figures_of(card)["Loss with each cure"].data
    drawn = next(each for each in curves if each.name == "no change" and each.fill is None)
    np.testing.assert_allclose(drawn.y, tried.no_change.curves.mean(0), rtol=1e-12)
    for line in repr(diagnosis).split("\n"):
        assert len(line) <= 100
