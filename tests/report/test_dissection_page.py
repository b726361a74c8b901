"""The report of a dissection: figures and captions match the numbers."""

import json
import math
import re

import numpy as np
import pytest
import torch
from browser import CHROMIUM, chromium
from sample_report import HOSTILE
from torch import nn

from thruway.dissecting import Deletion, Deletions, DrawnLesion, DrawnLesions, Error, Loss, dissect
from thruway.dissecting.paths.results import PathGradients, SampledPaths
from thruway.nn import Residual
from thruway.report import DissectionFindings, dissection_json, dissection_page, render_page, write_dissection
from thruway.report.dissection_captions import (
    agreement_caption,
    decay_per_branch,
    deletions_caption,
    drawn_caption,
    exact_caption,
    headline,
    lengths_caption,
    paths_caption,
    reordered_caption,
    snapped_to_zero,
)
from thruway.seeding import generator


@pytest.fixture(scope="module")
def found():
    """Everything that can be measured, on a small untrained net with a change of shape in it."""
    rng = generator(0, "net")

    def linear(before, after):
        layer = nn.Linear(before, after)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=rng) / before)
        return layer

    blocks = [Residual(linear(4, 4)) for _ in range(4)]
    net = nn.Sequential(*blocks[:2], linear(4, 6), *(Residual(linear(6, 6)) for _ in range(4)), linear(6, 3)).eval()
    x, y = torch.randn(30, 4, generator=rng), torch.arange(30) % 3
    d, batches = dissect(net, x[:2]), [(x, y)]

    def loss(output, targets=y[:8]):
        return nn.functional.cross_entropy(output, targets, reduction="none")

    metrics = (Error(batches), Loss(batches))
    deletions = tuple(d.delete_each(metric) for metric in metrics)
    return DissectionFindings(
        d,
        "net",
        "a net of the test",
        "two rows of numbers",
        data="thirty rows",
        units={"error": "share of wrong answers", "loss": "nats"},
        paths=d.path_lengths(),
        deletions=deletions,
        drawn=d.delete([1, 3], 5, metrics[0], rng),
        reordered=d.permute_pairs([1, 4], 5, metrics[0], rng),
        rankings=d.rankings(batches, loss=loss, measured=deletions[1]),
        rankings_agree_with="the measured change of the loss",
        gradients=d.path_gradients(loss, x[:8]),
        sampled=d.sampled_paths(loss, x[:8], draws=3),
        path_loss="the cross-entropy",
        path_unit="nats per unit of x",
        provenance={"seed": "0"},
    )


def sections_of(found):
    return {section.title: section for section in dissection_page(found).sections}


# --- figures: the numbers given


def test_bars_and_lines_are_the_lesions(found):
    sections = sections_of(found)
    for deletions in found.deletions:
        figure = sections[f"Without one branch: {deletions.metric}"].figure
        bar = next(trace for trace in figure.data if trace.type == "bar")
        assert list(bar.x) == [row.index for row in deletions]
        assert np.allclose(np.array(bar.y) + bar.base, [row.value for row in deletions], rtol=1e-12, atol=0)
        assert bar.base == deletions.intact
        tops = np.array(bar.y) + bar.base + np.array(bar.error_y.array)
        assert np.allclose(tops, [deletions.intact + row.high for row in deletions], rtol=1e-12, atol=0)
        assert 1.5 in [shape.x0 for shape in figure.layout.shapes]  # where 4 numbers become 6
    boxes = [trace for trace in sections["Without several branches"].figure.data if trace.type == "box"]
    assert {trace.x[0]: sorted(trace.y) for trace in boxes} == {
        k: sorted(row.value for row in found.drawn if row.k == k) for k in (1, 3)
    }
    points = [trace for trace in sections["In another order"].figure.data if trace.x is not None and trace.x[0]]
    drawn = {(x, y) for trace in points for x, y in zip(trace.x, trace.y, strict=True)}
    assert drawn == {(row.tau, row.value) for row in found.reordered}


@pytest.mark.parametrize("kind", ["published", "exact"])
def test_three_panels_are_the_paths(found, kind):
    title = "Gradient by path length, as published: random single paths"
    title, paths = (title, found.sampled) if kind == "published" else (_EXACT, found.gradients)
    share, gradient, contribution = sections_of(found)[title].figure.data[:3]
    assert np.allclose(share.y, [math.comb(6, k) / 2**6 for k in range(7)], rtol=1e-12, atol=0)
    assert np.allclose(gradient.y, paths.mean, rtol=1e-6, atol=0)  # float32
    assert np.allclose(contribution.y, paths.contribution, rtol=1e-6, atol=0)
    assert sections_of(found)[title].figure.layout.yaxis2.title.text == "gradient norm (nats per unit of x)"


_EXACT = "Gradient by path length, exact: all paths"


def test_every_axis_has_a_name(found):
    for section in dissection_page(found).sections:
        if section.figure is not None and section.title != "The branches":  # a drawing
            axes = [section.figure.layout[key] for key in section.figure.layout if re.match(r"[xy]axis\d*$", key)]
            assert axes
            assert all(axis.title.text for axis in axes), section.title


# --- sentences: from numbers that are known


def deletions(*changes, higher=False, width=0.01, intact=0.1):
    rows = tuple(
        Deletion(index, f"b{index}", "identity", intact + change, change, change - width, change + width)
        for index, change in enumerate(changes)
    )
    return Deletions(rows, intact, "accuracy" if higher else "error", 0.95, 100, higher)


def test_the_most_important_branch_is_named():
    text = deletions_caption(deletions(0.0, 0.3, 0.05))
    assert text.startswith("With one branch left out the error is 0.1 to 0.4; the intact model has 0.1.")
    assert "Branch 1 (b1) matters most: without it the error is 0.4 (+0.3, 95% interval +0.29 to +0.31)" in text
    assert "1 of 3 branches can be left out alone" in text
    assert "No branch can be left out alone" in deletions_caption(deletions(0.2, 0.3))


def test_no_branch_is_named_where_none_is_needed():
    for text in (deletions(0.0, -0.1), deletions(0.0, 0.1, higher=True)):
        assert f"No single branch is needed: the {text.metric} is no worse" in deletions_caption(text)
        assert "2 of 2 branches can be left out alone" in deletions_caption(text)


def test_rounding_keeps_no_interval_from_zero():
    """One wrong answer of 382 has an interval from 0, which a mean of float64 may miss by 1e-17."""
    row = Deletion(0, "b0", "identity", 0.1026, 0.0026, 8.67e-18, 0.0079)
    lesions = Deletions((row,), 0.1, "error", 0.95, 382, False)
    assert "1 of 1 branches can be left out alone" in deletions_caption(lesions)
    assert "interval +0 to +0.0079" in deletions_caption(lesions)
    assert snapped_to_zero(1e-6, lesions) == 1e-6


def test_an_intact_model_without_a_finite_metric_has_no_comparison():
    assert deletions_caption(deletions(0.1, intact=math.nan)) == (
        "The error of the intact model is not finite, so lesions cannot be compared with it."
    )


def test_less_accuracy_is_worse():
    text = deletions_caption(deletions(-0.3, 0.2, higher=True, intact=0.5))
    assert "Branch 0 (b0) matters most: without it the accuracy is 0.2" in text
    assert "1 of 2 branches can be left out alone" in text


def test_nan_does_not_count_as_unneeded():
    text = deletions_caption(deletions(math.nan, 0.3))
    assert "No branch can be left out alone" in text
    assert "NaN" not in text
    assert "is not finite with any branch left out" in deletions_caption(deletions(math.nan))


def test_captions_give_medians():
    rows = tuple(
        DrawnLesion(k, draw, (), tau, value)
        for k, tau, values in ((1, 0.9, (0.1, 0.2, 0.9)), (5, 0.5, (0.3, 0.4, 0.5)))
        for draw, value in enumerate(values)
    )
    lesions = DrawnLesions(rows, 0.05, "error", 10, "branches left out")
    assert drawn_caption(lesions) == (
        "The median error goes from 0.05 with all branches to 0.2 without 1 random branch and 0.4 without 5."
    )
    assert "Its median is 0.2 after 1 swap (mean tau 0.90) and 0.4 after 5 swaps (mean tau 0.50)." in (
        reordered_caption(lesions)
    )
    assert drawn_caption(DrawnLesions(rows[:3], 0.05, "error", 10, "")).startswith("Without 1 random branch the")


def test_a_known_decay_is_recovered():
    norms = torch.tensor([3 * 0.4**k for k in range(6)], dtype=torch.float64)[:, None, None]
    paths = tuple(math.comb(5, k) for k in range(6))
    assert decay_per_branch(SampledPaths(paths, norms)) == pytest.approx(0.4, rel=1e-12)
    assert "changes by a factor of 0.40 with each further branch" in paths_caption(SampledPaths(paths, norms))
    assert math.isnan(decay_per_branch(SampledPaths((1, 1), norms[:2])))
    assert paths_caption(SampledPaths(paths, norms * 0)) == "No gradient arrives along any path."


def test_gradients_are_given_as_shares_of_all_paths():
    norms = torch.tensor([[0.0], [1.0], [0.0]], dtype=torch.float64)
    one = PathGradients((1, 2, 1), norms, norms, torch.ones(1))
    assert exact_caption(one) == (
        "100% of the gradient is on paths of 1 branch, 50.0% of all paths. The mean path length is 1.00 branches "
        "weighted by the gradient (95% interval 1.00 to 1.00), and 1.0 unweighted."
    )
    none = PathGradients((1, 2, 1), norms * 0, norms, torch.ones(1))
    assert exact_caption(none) == "No gradient arrives."


def test_counts_of_any_size_are_formatted():
    class Deep:
        counts = tuple(math.comb(2000, k) for k in range(2001))

    from thruway.dissecting.paths.lengths import PathLengths

    assert "10^602 paths" in lengths_caption(PathLengths(Deep.counts))


def test_the_best_ranking_is_named(found):
    table = found.rankings.agreement()
    best = max(float(rho) for rho in table["rho"])
    assert f"with a rank correlation of {best:.2f}" in agreement_caption(found)


def test_without_data_nothing_is_claimed(found):
    bare = DissectionFindings(found.dissection, "net", "a net", "random numbers of shape (2, 4)", paths=found.paths)
    assert "not which branches matter" in headline(bare)
    titles = [section.title for section in dissection_page(bare).sections]
    assert titles[:2] == ["Path lengths", "The branches"]
    text = render_page(dissection_page(bare))
    for word in ("matters most", "interval", "Effective depth", "contribution"):
        assert word not in re.sub(r"<script.*?</script>", "", text, flags=re.S)
    text = json.loads(dissection_json(bare))
    assert not {"lesions", "rankings", "path_gradients"} & set(text)


# --- files


def test_json_is_strict_and_whole(found, tmp_path):
    page, data = write_dissection(found, tmp_path / "new" / "folder")
    text = json.loads(data.read_text(), parse_constant=pytest.fail)
    assert [row["change"] for row in text["lesions"][0]["without"]] == [row.change for row in found.deletions[0]]
    assert text["paths"]["counts"] == ["1", "6", "15", "20", "15", "6", "1"]
    assert sum(row["contribution"] for row in text["path_gradients"]) == pytest.approx(1, rel=1e-6)
    assert len(text["branches"]) == 6
    assert page.stat().st_size < 3_000_000


def test_hostile_names_are_text(found):
    hostile = DissectionFindings(
        **{**vars(found), "name": HOSTILE, "about": HOSTILE, "data": HOSTILE, "notes": (HOSTILE,)}
    )
    text = render_page(dissection_page(hostile))
    assert "<img" not in text
    assert json.loads(dissection_json(hostile))["name"] == HOSTILE


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_opens_quietly_and_fits(found, tmp_path, width):
    page, _ = write_dissection(found, tmp_path)
    with chromium() as tab:
        tab.shape("light", width, 900)
        tab.open(page)
        tab.wait("Number(document.documentElement.dataset.drawn ?? 0) > 0 || document.querySelector('.problem')")
        assert tab.complaints == []
        assert tab.requests == [page.resolve().as_uri()]
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert tab.evaluate("document.querySelectorAll('.plot .main-svg').length") > 0
