"""The nine planted faults, and two healthy scripts: the printed diagnosis names the cause, the layer and the step."""

import re

import pytest
import torch

import thruway as tw
from tests.diagnosing import planted

# script: rule of the only root finding, first site (a pattern), step, and what must be printed (patterns)
FAULTS = {
    planted.sgd_too_fast: (
        "lr_too_high",
        "fc1",
        0,
        (r"step 0 moved fc1\.weight by \d+ %", r"lower it about ([3-9]0|[12]00)x"),
    ),
    planted.adam_too_fast: (
        "lr_too_high",
        "fc1",
        0,
        (r"step 0 moved fc1\.weight by \d+ %", r"lower it about ([3-9]0|[12]00)x"),
    ),
    planted.deep_tanh_large_weights: (
        "poor_init|exploding_gradient",
        ".*",
        0,
        (r"exploding_gradient since step 0|gradient grows", r"1 / sqrt\(784\)"),
    ),
    planted.deep_sigmoid: (
        "vanishing_gradient",
        "embed|hidden.*",
        0,
        (r"factor of 0\.1\d? a layer", r"not saturation", r"use ReLU|use tanh"),
    ),
    planted.all_zero: (
        "constant_output|symmetric_init",
        "fc.",
        0,
        (r"[Aa]ll weights .*zero", r"output ignores the input|output does not depend on the input"),
    ),
    planted.no_zero_grad: ("gradients_accumulate", "", 1, (r"gradients accumulate", r"zero_grad")),
    planted.dead_layer: ("dead_units|dying_relu", "fc2", 0, (r"fc2", r"because of the bias")),
    planted.softmax_before_cross_entropy: (
        "double_softmax",
        ".*softmax",
        0,
        (r"ends in softmax, and the loss applies it again",),
    ),
    planted.frozen_position_embedding: ("frozen_parameters", "wpe", 0, (r"wpe\.weight is frozen and constant",)),
}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("script", FAULTS, ids=lambda script: script.__name__)
def test_the_diagnosis_names_the_planted_fault(script):
    rule, site, step, printed = FAULTS[script]
    torch.manual_seed(0)
    diagnosis = tw.diagnose(script())
    assert len(diagnosis) == 1, [finding.rule for finding in diagnosis]
    (found,) = diagnosis
    assert re.fullmatch(rule, found.rule)
    assert re.fullmatch(site, found.sites[0] if found.sites else "")
    assert found.onset == step
    text = " ".join(str(diagnosis).split())
    for pattern in printed:
        assert re.search(pattern, text, re.IGNORECASE), f"{pattern!r} is not in: {text}"


@pytest.mark.parametrize("script", FAULTS, ids=lambda script: script.__name__)
def test_every_root_has_its_evidence(script):
    torch.manual_seed(1)
    (found,) = tw.diagnose(script())
    roles = [evidence.role for evidence in found.evidence]
    assert roles[0] == "threshold"
    assert {"theory", "ruled out"} <= set(roles)
    assert found.cures
    assert found.margin >= 1


@pytest.mark.parametrize("script", [planted.healthy_net, planted.healthy_gpt], ids=lambda script: script.__name__)
@pytest.mark.parametrize("seed", range(3))
def test_healthy_scripts_have_no_finding(script, seed):
    torch.manual_seed(seed)
    diagnosis = tw.diagnose(script())
    assert diagnosis.healthy, str(diagnosis)
    assert not [reason for reason in diagnosis.unseen.values() if "failed" in reason]


def test_a_printed_trace_begins_with_its_findings():
    torch.manual_seed(0)
    trace = planted.no_zero_grad()
    finding, hint, head, *_ = repr(trace).splitlines()
    assert finding.startswith("gradients_accumulate since step 1: ")
    assert "thruway.diagnose(trace)" in hint
    assert head.startswith("Trace of Net: 40 steps")
    html = trace._repr_html_()
    assert html.index("gradients_accumulate") < html.index("Trace of Net")
