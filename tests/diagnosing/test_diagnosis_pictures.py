"""Pictures of findings: every symptom has its own, with the numbers of the trace and the onset marked."""

import math

import numpy as np
import pytest
import torch
from drawn_traces import LAYERS, ONSET, diagnosis_of, finding_of, layered_trace, made_trace
from torch import nn

from thruway import watch
from thruway.diagnosing import SYMPTOMS, Diagnosis, Evidence, Finding, Reading
from thruway.diagnosing.pictures import PICTURES, pictures_of
from thruway.diagnosing.pictures.table import pictures_of as pictures
from thruway.diagnosing.pictures.theory import expected_gradients, expected_signals
from thruway.errors import ConfigError
from thruway.seeding import generator
from thruway.watching.sites import Site

# The first picture of each symptom, and the quantity that its first trace shows.
FIRST = {
    "vanishing_gradient": ("map", "gradient"),
    "exploding_gradient": ("map", "gradient"),
    "exploding_activation": ("map", "output"),
    "poor_init": ("depth", "output"),
    "saturated": ("map", "saturation_high"),
    "dead_units": ("map", "dead_units"),
    "dying_relu": ("map", "dead_units"),
    "symmetric_init": ("depth", "parameter"),
    "frozen_parameters": ("states", "state"),
    "nan_or_inf": ("map", "nan"),
    "lr_too_high": ("map", "update_ratio"),
    "lr_too_low": ("map", "update_ratio"),
    "rank_collapse": ("map", "input_correlation"),
    "gates_shut": ("map", "gates"),
    "gates_open": ("map", "gates"),
    "gradients_accumulate": ("lines", "growth"),
    "double_softmax": ("loss", "loss"),
    "constant_output": ("map", "input_correlation"),
    "unscaled_input": ("inputs", "inputs"),
    "gate_bias_not_negative": ("depth", "gates"),
    "diverging": ("loss", "loss"),
}


@pytest.fixture(scope="module")
def trace():
    return layered_trace()


def rows_of(trace, quantity, kind, chosen):
    series = trace.series(quantity, kind)
    rows = [row for row, site in enumerate(series.sites) if chosen(site)]
    return series.values[rows]


def rms_of(trace, kind, chosen):
    return np.hypot(rows_of(trace, "mean", kind, chosen), rows_of(trace, "std", kind, chosen))


def is_layer(site):
    return site.operation == "Linear"


def is_activation(site):
    return site.activation is not None and not site.is_gate


def expected_table(trace, quantity):
    """The numbers of a map, read from the trace without the code under test."""
    update = trace.series("norm", "update").values / trace.series("norm", "parameter").values
    return {
        "gradient": lambda: rms_of(trace, "gradient", is_layer),
        "output": lambda: rms_of(trace, "output", is_layer),
        "saturation_high": lambda: rows_of(trace, "saturation_high", "output", is_activation),
        "dead_units": lambda: rows_of(trace, "dead_units", "output", is_activation),
        "nan": lambda: rows_of(trace, "nan", "output", lambda site: True),
        "update_ratio": lambda: update,
        "input_correlation": lambda: rows_of(trace, "input_correlation", "output", lambda site: True),
        "gates": lambda: rows_of(trace, "mean", "output", lambda site: site.is_gate),
        "parameter": lambda: rows_of(trace, "std", "parameter", lambda site: True),
    }[quantity]()


def test_every_symptom_has_its_picture():
    assert set(PICTURES) == set(SYMPTOMS) == set(FIRST)


@pytest.mark.parametrize("rule", SYMPTOMS)
def test_the_first_picture_shows_the_numbers_of_the_trace(trace, rule):
    name, quantity = FIRST[rule]
    finding = finding_of(rule, trace)
    drawn = pictures_of(Reading(trace), finding)
    assert drawn[0].name == name
    assert len({picture.name for picture in drawn}) == len(drawn) or rule == "diverging"
    figure = drawn[0].figure
    if name == "map":
        np.testing.assert_allclose(figure.data[0].z, expected_table(trace, quantity), rtol=1e-6)
    elif name == "depth":
        column = trace.steps.index(finding.onset)
        measured = next(each for each in figure.data if str(each.name).startswith("measured"))
        np.testing.assert_allclose(measured.y, expected_table(trace, quantity)[:, column], rtol=1e-12)
    elif name == "loss":
        np.testing.assert_allclose(figure.data[0].y, trace.series("loss", "step").values[0], rtol=1e-12)
        assert figure.data[0].x.tolist() == trace.steps


@pytest.mark.parametrize("rule", [rule for rule in SYMPTOMS if FIRST[rule][0] == "map"])
def test_the_frame_holds_the_affected_layers_from_the_onset_on(trace, rule):
    finding = finding_of(rule, trace)
    figure = pictures_of(Reading(trace), finding)[0].figure
    frame = figure.layout.shapes[-1]
    rows = [row for row, name in enumerate(figure.data[0].y) if name in finding.sites]
    assert (frame.y0, frame.y1) == (min(rows) - 0.5, max(rows) + 0.5)
    cells = np.asarray(figure.data[0].x)
    inside = cells[(cells > frame.x0) & (cells < frame.x1)]
    assert inside[0] == cells[cells <= finding.onset][-1]
    assert inside[-1] == cells[-1]
    assert f"<b>step {finding.onset:,}</b>" in [each.text for each in figure.layout.annotations]


def test_a_symptom_that_ended_is_framed_up_to_its_end(trace):
    finding = finding_of("vanishing_gradient", trace)
    ended = Finding(**{**vars(finding), "until": ONSET + 5})
    figure = pictures_of(Reading(trace), ended)[0].figure
    cells = np.asarray(figure.data[0].x)
    frame = figure.layout.shapes[-1]
    assert cells[(cells > frame.x0) & (cells < frame.x1)].tolist() == list(range(ONSET, ONSET + 6))


def test_the_loss_has_the_onset_marked(trace):
    for rule in ("diverging", "vanishing_gradient"):
        figure = next(
            each.figure for each in pictures_of(Reading(trace), finding_of(rule, trace)) if each.name == "loss"
        )
        assert [shape.x0 for shape in figure.layout.shapes if shape.type == "line"] == [ONSET]
        area = next(shape for shape in figure.layout.shapes if shape.type == "rect")
        assert (area.x0, area.x1) == (ONSET, trace.steps[-1])


def test_the_floor_of_two_softmaxes_is_drawn(trace):
    figure = pictures_of(Reading(trace), finding_of("double_softmax", trace))[0].figure
    levels = {each.name: each.y[0] for each in figure.data[1:]}
    # The lowest cross-entropy of inputs in [0, 1]: one class at 1, all others at 0.
    lowest = nn.functional.cross_entropy(torch.eye(10, dtype=torch.float64)[:1], torch.tensor([0])).item()
    assert levels == pytest.approx(
        {"ln 10: all classes equally likely": math.log(10), "lowest loss that two softmaxes allow": lowest}, rel=1e-12
    )


def test_states_of_parameters(trace):
    figure = pictures_of(Reading(trace), finding_of("frozen_parameters", trace))[0].figure
    no, yes = figure.data
    answers = np.where(no.z == 0, "no", np.where(yes.z == 1, "yes", ""))
    table = dict(zip(no.y, answers.tolist(), strict=True))
    assert table["hidden.0.weight"] == ["no", "yes", "yes", "no"]  # frozen
    assert table["hidden.5.weight"] == ["yes", "no", "no", "no"]  # not in the optimizer
    assert table["hidden.23.weight"] == ["yes", "yes", "yes", "yes"]


def test_accumulated_gradients_grow_and_the_output_stays(trace):
    figure = pictures_of(Reading(trace), finding_of("gradients_accumulate", trace))[0].figure
    norm = np.sqrt((trace.series("norm", "parameter_gradient").values ** 2).sum(0))
    np.testing.assert_allclose(figure.data[0].y, norm / norm[0], rtol=1e-12)
    last = np.hypot(trace.series("mean", "gradient").values[-1], trace.series("std", "gradient").values[-1])
    np.testing.assert_allclose(figure.data[1].y, last / last[0], rtol=1e-12)


def test_inputs_are_drawn_with_their_spread(trace):
    figure = pictures_of(Reading(trace), finding_of("unscaled_input", trace))[0].figure
    assert list(figure.data[0].y) == ["pixels", "age"]
    assert list(figure.data[0].x) == [128, 41]
    assert list(figure.data[0].error_x.array) == [72, 18]
    assert (figure.layout.shapes[0].x0, figure.layout.shapes[0].x1) == (-1, 1)


# --- theory


def chain(activation, std, depth=12, width=256):
    torch.manual_seed(0)
    net = nn.Sequential(*(m for _ in range(depth) for m in (nn.Linear(width, width, bias=False), activation())))
    rng = generator(0, "chain")
    for parameter in net.parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=rng) * std / width**0.5)
    x = torch.randn(256, width, generator=rng)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    with watch(net, optimizer=optimizer) as trace:
        (net(x) * torch.randn(256, width, generator=rng)).sum().backward()
        optimizer.step()
    return trace


@pytest.mark.parametrize(("activation", "std"), [(nn.Tanh, 1.5), (nn.ReLU, 1.0), (nn.Sigmoid, 2.0)])
def test_the_lines_of_theory_follow_wide_random_networks(activation, std):
    """For wide layers the measured numbers are those of theory, at every depth, up to a few percent per layer."""
    reading = Reading(chain(activation, std))
    names, gradients = expected_gradients(reading, 0)
    measured = reading.rms("gradient")
    found = np.array([measured.of(name)[0] for name in names])
    assert (np.abs(np.log(gradients / found)) / np.arange(len(names), 0, -1)).max() < 0.04
    names, signals = expected_signals(reading, 0)
    found = np.array([reading.rms().of(name)[0] for name in names])
    assert (np.abs(np.log(signals / found)) / np.arange(1, len(names) + 1)).max() < 0.04
    assert len(names) == 12


def test_the_line_of_theory_is_drawn_beside_the_measured_one():
    trace = chain(nn.Tanh, 0.8)
    names = tuple(site.name for site in trace.sites if site.kind == "output" and site.operation == "Linear")
    finding = Finding("vanishing_gradient", "", names[:3], since=(None, 0))
    (picture,) = [each for each in pictures_of(Reading(trace), finding) if each.name == "depth"]
    lines = {str(each.name): each for each in picture.figure.data}
    expected = expected_gradients(Reading(trace), 0)[1]
    np.testing.assert_allclose(lines["theory, for the measured weights"].y, expected, rtol=1e-12)
    gradient = Reading(trace).rms("gradient")
    np.testing.assert_allclose(lines["measured: step 0"].y, [gradient.of(name)[0] for name in names], rtol=1e-12)
    assert lines["healthy: equal in every layer"].y[0] == gradient.of(names[-1])[0]
    assert lines["affected"].x.tolist() == [1, 2, 3]
    assert picture.figure.layout.yaxis.type == "log"


# --- sparse traces


def test_one_step_has_no_maps_and_no_curves():
    trace = layered_trace(8, 1)
    for rule in SYMPTOMS:
        drawn = pictures_of(Reading(trace), finding_of(rule, trace))
        assert drawn
        assert {picture.name for picture in drawn} <= {"depth", "gradient", "states", "inputs", "numbers"}, rule


def test_losses_that_were_passed_are_drawn():
    trace = layered_trace(4, 30)
    given = [float(i) for i in range(30)]
    diagnosis = Diagnosis((finding_of("vanishing_gradient", trace),), {}, trace, given)
    assert diagnosis.figure(0, "loss").data[0].y.tolist() == given


def test_numbers_that_are_not_finite_are_gaps_and_zeros_triangles():
    sites = {"output": [Site(f"l{i}", "output", "Linear", shape=(4, 4)) for i in range(5)]}
    std = np.array([[1.0], [np.nan], [0.0], [np.inf], [100.0]]) * np.ones((1, 3))
    trace = made_trace({("output", "mean"): np.zeros_like(std), ("output", "std"): std}, sites, range(3))
    finding = Finding("exploding_activation", "", ("l4",), since=(None, 0))
    drawn = {each.name: each.figure for each in pictures(Reading(trace), finding)}
    measured = next(each for each in drawn["depth"].data if str(each.name).startswith("measured"))
    np.testing.assert_equal(measured.y, [1, np.nan, np.nan, np.nan, 100])
    zeros = next(each for each in drawn["depth"].data if each.marker.symbol == "triangle-down-open")
    assert zeros.x.tolist() == [3]
    assert np.isnan(drawn["map"].data[0].z[1]).all()


def test_colours_of_shares_are_those_of_0_to_1(trace):
    """Gates of 0.999874 and 0.999876 look alike; other quantities have the colours of their own range."""
    share, gradient = (
        next(each for each in pictures_of(Reading(trace), finding_of(rule, trace)) if each.name == "map").figure
        for rule in ("dead_units", "vanishing_gradient")
    )
    assert (share.layout.coloraxis.cmin, share.layout.coloraxis.cmax) == (0, 1)
    assert gradient.layout.coloraxis.cmax != 1


def test_a_thousand_layers_share_the_rows_of_a_map():
    trace = layered_trace(1000, 60)
    finding = finding_of("exploding_gradient", trace)
    figure = pictures_of(Reading(trace), finding)[0].figure
    gradient = rms_of(trace, "gradient", is_layer)
    assert figure.data[0].z.shape == (334, 60)
    np.testing.assert_allclose(figure.data[0].z[0], gradient[:3].max(0), rtol=2e-4)
    frame = figure.layout.shapes[-1]
    assert (frame.y0, frame.y1) == (-0.5, 332 // 3 + 0.5)  # layers 0 to 332, three per row


def test_rules_of_the_user_are_drawn_from_their_evidence(trace):
    finding = Finding(
        "mine", "", ("hidden.3",), since=(9, 10), evidence=(Evidence("std", "hidden.3", 10, 1.0, "it is"),)
    )
    figure = Diagnosis((finding,), {}, trace).figure(0)
    np.testing.assert_allclose(figure.data[0].z, trace.series("std").values, rtol=1e-6)
    numbers = Finding(
        "mine", "", (), since=(None, 0), evidence=(Evidence("own", "", 0, 2.0, "own", "threshold", 0.5, 1.0),)
    )
    figure = Diagnosis((numbers,), {}, layered_trace(2, 1)).figure(0)
    assert {each.name: each.x.tolist() for each in figure.data} == {"measured": [2], "expected": [0.5], "limit": [1]}


def test_figures_of_a_diagnosis_are_those_of_the_card(trace):
    diagnosis = diagnosis_of(["vanishing_gradient"], trace)
    assert diagnosis.figure(0, "depth") == diagnosis.figure(diagnosis[0], "depth")
    assert len(diagnosis.figure().data[0].z) == LAYERS
    assert diagnosis.figure(diagnosis[0].effects[0]).data[0].z is not None
    with pytest.raises(ConfigError, match=r"there is no finding 7: the diagnosis has 1"):
        diagnosis.figure(7)
    with pytest.raises(ConfigError, match=r"unknown picture of this finding 'dpeth'.*depth, loss, map"):
        diagnosis.figure(0, "dpeth")


def test_a_layer_stands_for_the_activation_that_follows_it(trace):
    """Rules name modules; the shares of zeros and of saturation are measured at activations."""
    finding = Finding("dead_units", "", ("hidden.7",), since=(None, 0))
    figure = pictures_of(Reading(trace), finding)[0].figure
    row = list(figure.data[0].y).index("hidden.7.relu")
    assert (figure.layout.shapes[-1].y0, figure.layout.shapes[-1].y1) == (row - 0.5, row + 0.5)
