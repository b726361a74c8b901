"""Traces with chosen numbers, and a finding of every symptom in one of them.

`python tests/diagnosing/drawn_traces.py PAGE.html` writes one report with a card of every symptom, to be looked at.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from thruway.diagnosing import CURES, Cure, Diagnosis, Evidence, Finding
from thruway.watching.quantities.collector import Measured
from thruway.watching.quantities.table import QUANTITIES, Quantity
from thruway.watching.sites import Registry, Site
from thruway.watching.trace.trace import Trace

LAYERS, STEPS, ONSET = 24, 60, 20
HOSTILE = "<img src=x onerror=alert(1)>&amp;\n"


def made_trace(
    numbers: Mapping[tuple[str, str], np.ndarray],
    sites: Mapping[str, Sequence[Site]],
    steps: Sequence[int],
    *,
    model: str = "Net",
) -> Trace:
    """Return a trace with the given numbers: (sites, steps) by (kind, quantity), with the sites by kind."""
    registry = Registry()
    for each in sites.values():
        for site in each:
            registry.add(site)
    trace = Trace(model, registry, None, 1 << 40)
    for column, step in enumerate(steps):
        measured = []
        for (kind, name), values in numbers.items():
            known = (
                np.flatnonzero(~np.isnan(values[:, column])) if name in ("dead_units", "input_correlation") else None
            )
            rows = range(len(values)) if known is None else known
            chosen = [sites[kind][row] for row in rows]
            if chosen:
                quantity = QUANTITIES.get(name) or Quantity(name, "", lambda rows: rows.mean)
                measured.append(Measured(quantity, tuple(chosen), 1, values[list(rows), column]))
        trace.add(step, measured)
    return trace


def layered_trace(
    layers: int = LAYERS, steps: int = STEPS, *, model: str = "Net", prefix: str = "hidden.", every: int = 1
) -> Trace:
    """Return a trace of a net of Linear, ReLU and a gate per layer with smooth, made-up numbers, sick from ONSET on."""
    rng = np.random.default_rng(0)
    outputs, weights = [], []
    for number in range(layers):
        name = f"{prefix}{number}"
        outputs.append(Site(name, "output", "Linear", None, -1, shape=(32, 16)))
        outputs.append(Site(f"{name}.relu", "output", "relu", "relu", -1, shape=(32, 16)))
        outputs.append(Site(f"{name}.gate", "output", "sigmoid", "sigmoid", -1, is_gate=True, shape=(32, 16)))
        weights.append(Site(f"{name}.weight", "parameter", "parameter", shape=(16, 16)))
    outputs.append(Site("softmax", "output", "softmax", "softmax", -1, shape=(32, 10)))
    gradients = [Site(site.name, "gradient", site.operation, None, -1, shape=site.shape) for site in outputs]
    named = {
        "output": outputs,
        "gradient": gradients,
        "parameter": weights,
        "parameter_gradient": [Site(w.name, "parameter_gradient", "parameter") for w in weights],
        "update": [Site(w.name, "update", "parameter") for w in weights],
        "input": [Site("pixels", "input", "input", shape=(32, 784)), Site("age", "input", "input", shape=(32, 1))],
        "step": [Site("loss", "step", "loss")],
    }
    time = np.arange(steps)
    late = np.clip(time - ONSET, 0, None) / max(1, steps - ONSET)
    depth = np.repeat(np.arange(layers), 3)
    depth = np.append(depth, layers)[:, None] / layers
    noise = np.exp(0.05 * rng.standard_normal((len(outputs), steps)))
    gates = np.array([site.is_gate for site in outputs])[:, None]
    sigmoid = 1 / (1 + np.exp(2 + 3 * late[None, :] * (1 - depth)))
    std = np.where(gates, 0.1, np.exp(1.5 * depth * (0.2 + late[None, :]))) * noise
    mean = np.where(gates, sigmoid, 0.1 * std)
    gradient = 0.02 * np.exp(-9 * (1 - depth) * (0.3 + late[None, :])) * noise
    share = np.clip(0.05 + 0.9 * late[None, :] * depth, 0, 1) * noise.clip(0.9, 1.05)
    stride = np.where(time % 10 == 0, 0.0, np.nan)[None, :]
    weight_rows = np.arange(layers)[:, None] / layers
    norm = 4 * np.ones((layers, steps))
    update = norm * 1e-3 * np.exp(5 * late[None, :] * weight_rows) * noise[::3][:layers]
    bad = np.zeros_like(std)
    bad[len(std) // 2 :, -6:] = 512
    loss = (2.3 - 1.2 * time / steps + 0.05 * rng.standard_normal(steps) + np.exp(9 * late) / 900)[None, :]
    state = np.full((layers, steps), 7.0)
    state[:4] = 6.0
    state[4:7] = 1.0
    numbers = {
        ("output", "mean"): mean,
        ("output", "std"): std,
        ("output", "nan"): bad,
        ("output", "inf"): np.zeros_like(bad),
        ("output", "saturation"): share,
        ("output", "saturation_low"): 0.2 * share,
        ("output", "saturation_high"): 0.8 * share,
        ("output", "zeros"): np.clip(0.5 + 0.4 * share, 0, 1),
        ("output", "dead_units"): share + stride,
        ("output", "input_correlation"): np.clip(share + 0.2 * depth, 0, 1) + stride,
        ("gradient", "mean"): np.zeros_like(gradient),
        ("gradient", "std"): gradient,
        ("parameter", "mean"): np.zeros((layers, steps)),
        ("parameter", "std"): np.where(weight_rows * layers < 3, 0.0, 0.25) * np.ones((1, steps)),
        ("parameter", "norm"): norm,
        ("parameter", "state"): state,
        ("parameter_gradient", "norm"): (1 + time / 4)[None, :] * np.exp(-weight_rows) * noise[::3][:layers],
        ("update", "norm"): np.where(weight_rows * layers < 7, 0.0, update),
        ("input", "mean"): np.array([[128.0], [41.0]]) * np.ones((1, steps)),
        ("input", "std"): np.array([[72.0], [18.0]]) * np.ones((1, steps)),
        ("step", "loss"): loss,
    }
    return made_trace(numbers, named, [every * each for each in time.tolist()], model=model)


def finding_of(rule: str, trace: Trace) -> Finding:
    """Return a made-up finding of a symptom, about sites of `layered_trace`."""
    names = [site.name for site in trace.sites if site.kind == "output" and site.operation == "Linear"]
    weights = [site.name for site in trace.sites if site.kind == "parameter"]
    steps = trace.steps
    onset = steps[min(ONSET, len(steps) - 1)]
    before = steps[steps.index(onset) - 1] if onset != steps[0] else None
    third = max(1, len(names) // 3)
    sites, evidence, cures, end = names[:third], "std", ("critical_init", "skip", "relu"), None
    since, until = (before, onset), None
    if rule in ("saturated", "dead_units", "dying_relu", "rank_collapse", "constant_output"):
        sites = [f"{name}.relu" for name in names[-third:]]
        evidence = {"saturated": "saturation", "rank_collapse": "input_correlation"}.get(rule, "dead_units")
        end = "high" if rule == "saturated" else None
    elif rule.startswith("gate"):
        sites, evidence, cures = [f"{name}.gate" for name in names[:third]], "mean", ("gate_bias",)
    elif rule in ("frozen_parameters", "symmetric_init", "lr_too_high", "lr_too_low", "gradients_accumulate"):
        sites, evidence, cures = weights[-third:], "update_ratio", ("much_lower_lr", "clip")
        if rule in ("frozen_parameters", "symmetric_init"):
            sites, since = weights[:7], (None, steps[0])
    elif rule in ("exploding_activation", "nan_or_inf"):
        sites = names[len(names) // 2 :]
        since = (steps[-7], steps[-6]) if rule == "nan_or_inf" and len(steps) > 7 else since
    elif rule == "double_softmax":
        sites, evidence, cures, since = ["softmax"], "loss", ("logits",), (None, steps[0])
    elif rule == "unscaled_input":
        sites, cures, since = ["pixels"], ("scale_input",), (None, steps[0])
    elif rule == "diverging":
        sites, evidence, cures = [], "loss", ("lower_lr", "clip")
    elif rule == "poor_init":
        since, until = (None, steps[0]), onset if len(steps) > 1 else None
    worst = sites[0] if sites else ""
    return Finding(
        rule,
        f"A made-up cause of {rule.replace('_', ' ')}: each layer multiplies the number by 1.4, and there are "
        f"{len(names):,} layers, so that the last one has 3,200 times as much as the first.",
        tuple(sites),
        since=since,
        evidence=(
            Evidence(
                evidence,
                worst,
                since[1],
                7.5,
                f"the {evidence} of {worst or 'the net'} is large",
                "threshold",
                1.0,
                3.0,
            ),
            Evidence("growth", "", since[1], 1.41, "growth per layer", "theory", 1.38),
            Evidence("zeros", worst, since[1], 0.52, "52 % of the values are 0, as ReLU has it", "ruled out", 0.5, 0.9),
            Evidence("batch", "", None, 32, "a batch of 32 examples", "context"),
        ),
        cures=tuple(CURES[each] for each in cures),
        span=(sites[0], sites[-1]) if sites else None,
        until=until,
        end=end,
        margin=2.5,
        confidence=0.93,
    )


def diagnosis_of(rules: Sequence[str], trace: Trace) -> Diagnosis:
    """Return a diagnosis with a finding of each symptom; the first has effects."""
    findings = [finding_of(rule, trace) for rule in rules]
    if len(findings) == 1:
        effects = tuple(finding_of(rule, trace) for rule in ("dead_units", "lr_too_low") if rule != rules[0])
        findings = [Finding(**{**vars(findings[0]), "effects": effects})]
    unseen = {
        "rank_collapse": "not recorded: effective_rank of outputs. Watch with quantities=[*DEFAULT, 'effective_rank'].",
        "gates_shut": "the model has no gates",
    }
    return Diagnosis(tuple(findings), unseen, trace)


@dataclass(frozen=True)
class MadeTrial:
    """Numbers of one cure, as `prescribe` measures them."""

    cure: Cure
    arm: str = "cure"
    applicable: bool = True
    reason: str = ""
    final: tuple[float, ...] = ()
    gain: float = math.nan
    interval: tuple[float, float] = (-math.inf, math.inf)
    curves: np.ndarray | None = None
    points: tuple[int, ...] = ()
    remaining: tuple[Finding, ...] = ()
    cleared: bool | None = None
    diff: str = ""
    code: str = ""

    @property
    def helps(self) -> bool:
        return self.applicable and self.interval[0] > 0


@dataclass(frozen=True)
class MadePrescription:
    """Cures that were tried, with made-up curves."""

    ranking: tuple[MadeTrial, ...]
    best: MadeTrial | None
    no_change: MadeTrial | None
    placebo: MadeTrial | None
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 200

    def trials(self) -> tuple[MadeTrial, ...]:
        return (*self.ranking, *(each for each in (self.no_change, self.placebo) if each is not None))


def made_prescription() -> MadePrescription:
    """Return a prescription: one cure that helps, one that does not, one that diverges, one that does not apply."""
    points = tuple(range(0, 201, 20))

    def trial(name: str, rate: float, arm: str = "cure", **more: Any) -> MadeTrial:
        rng = np.random.default_rng(len(name))
        curves = 2.3 * np.exp(-rate * np.array(points)) * np.exp(0.05 * rng.standard_normal((3, len(points))))
        gains = (2.3 - curves[:, -1]) / 2.3
        spread = 0.05
        interval = (float(gains.mean() - spread), float(gains.mean() + spread))
        final = tuple(curves[:, -1].tolist())
        return MadeTrial(CURES[name], arm, True, "", final, float(np.median(gains)), interval, curves, points, **more)

    diverged = trial("raise_lr", 0.0)
    diverged.curves[:, 4:] = np.nan
    diverged = replace(diverged, gain=-0.4, interval=(-math.inf, math.inf), final=(math.nan,) * 3)
    best = trial(
        "skip",
        0.012,
        cleared=True,
        code="model = nn.Sequential(\n    *(Residual(block) for block in model),\n)",
        diff="-a\n+b",
    )
    ranking = (best, trial("relu", 0.0), diverged, MadeTrial(CURES["logits"], "cure", False, "no softmax at the end"))
    return MadePrescription(ranking, best, trial("clip", 0.0, "no change"), trial("gate_bias", 0.0, "placebo"))


if __name__ == "__main__":
    from thruway.diagnosing import SYMPTOMS

    chosen = sys.argv[2:] or list(SYMPTOMS)
    print(diagnosis_of(chosen, layered_trace()).report(Path(sys.argv[1]), made_prescription()))
