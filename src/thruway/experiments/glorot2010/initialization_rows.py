"""The run folder read back: a row per layer of every measured start, a row per layer of every trained net."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thruway.experiments.glorot2010.initialization import SCHEMES, Config, Net, start_nets
from thruway.experiments.glorot2010.initialization_theory import predict
from thruway.runs import RunReader

__all__ = ["Histograms", "Spreads", "read_histograms", "read_spreads", "read_start_rows", "read_training_rows"]

Row = dict[str, Any]

_MEASURED = (
    "output.rms",
    "gradient.rms",
    "parameter_gradient.rms",
    "singular_value",
    "single_product",
    "single_variance",
)

Spreads = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Updates, and the std of the weight gradients of every seed, layer and update: (seeds, layers, updates)."""

Histograms = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Edges (layers, bins + 1) and counts (layers, bins)."""


def read_start_rows(reader: RunReader, config: Config) -> list[Row]:
    """One row per hidden layer of every net whose start was measured, predictions beside the measured spreads.

    Spreads are mean squares: of weight gradients those of the cost of all held-out examples, and "single" those of one
    example. A seed that was interrupted is not there.
    """
    seconds = reader.table(site="start", quantity="seconds")
    data = dict(zip(*(reader.table(site="data")[name].tolist() for name in ("quantity", "value")), strict=True))
    table = reader.table(quantity=_MEASURED, steps=0)
    values: dict[tuple[int, str, str], float] = {}
    for member, site, quantity, value in zip(
        *(table[name] for name in ("member", "site", "quantity", "value")), strict=True
    ):
        values[int(member), str(site), str(quantity)] = float(value)
    rows = []
    for seed in sorted(int(member) for member in seconds["member"]):
        for net in start_nets(config):
            rows += _rows_of(config, net, seed, values, data)
    return rows


def _rows_of(
    config: Config, net: Net, seed: int, values: Mapping[tuple[int, str, str], float], data: Mapping[str, float]
) -> list[Row]:
    def square(site: str, quantity: str) -> float:
        return values[seed, f"{net.site}/{site}", quantity] ** 2

    widths = (int(data["inputs"]), *config.widths(net.shape))
    top = config.depth
    predicted = predict(
        widths,
        net.scheme,
        data["mean_square"],
        square(f"s{top}", "gradient.rms"),
        values[seed, net.site, "single_product"],
    )
    # Without an activation a layer's output is its pre-activation, heard once.
    letter = "z" if net.activation == "tanh" else "s"
    return [
        {
            "stage": "start",
            "shape": net.shape,
            "scheme": net.scheme,
            "activation": net.activation,
            "seed": seed,
            "layer": layer,
            "width": widths[layer],
            "activation_variance": square(f"{letter}{layer}", "output.rms"),
            "activation_predicted": expected.activation,
            "gradient_variance": square(f"s{layer}", "gradient.rms"),
            "gradient_predicted": expected.gradient,
            "gradient_as_printed": expected.gradient_as_printed,
            "weight_gradient_variance": square(f"s{layer}.weight", "parameter_gradient.rms"),
            "single_weight_gradient_variance": values[seed, f"{net.site}/s{layer}.weight", "single_variance"],
            "single_weight_gradient_predicted": expected.weight_gradient,
            "singular_value": values.get((seed, f"{net.site}/s{layer}", "singular_value"), math.nan),
        }
        for layer, expected in enumerate(predicted, start=1)
    ]


def read_spreads(reader: RunReader, config: Config) -> dict[str, Spreads]:
    """How the weight gradients of every scheme's trained nets spread, as far as all of its seeds have got."""
    found: dict[str, Spreads] = {}
    for scheme in SCHEMES:
        sites = [f"training/{scheme}/s{layer}.weight" for layer in range(1, config.depth + 1)]
        table = reader.table(site=sites, quantity="parameter_gradient.std")
        seeds = sorted({int(member) for member in table["member"]})
        steps = np.arange(0, config.updates, config.stride)
        values = np.full((len(seeds), config.depth, len(steps)), np.nan)
        place = {site: layer for layer, site in enumerate(sites)}
        for member, site, step, value in zip(
            *(table[name] for name in ("member", "site", "step", "value")), strict=True
        ):
            values[seeds.index(int(member)), place[str(site)], int(step) // config.stride] = value
        if seeds:
            found[scheme] = steps, values
    return found


def read_training_rows(reader: RunReader, config: Config) -> list[Row]:
    """One row per hidden layer of every net that was trained to the end: its weight gradients in each tenth of it."""
    spreads = read_spreads(reader, config)
    rows = []
    for scheme, (_, values) in spreads.items():
        seconds = reader.table(site=f"training/{scheme}", quantity="seconds")
        took = dict(zip(seconds["member"].tolist(), seconds["value"].tolist(), strict=True))
        losses = reader.table(site=f"training/{scheme}", quantity="loss")
        for index, of_layers in enumerate(values):
            seed = config.seed + index
            if seed not in took:
                continue
            loss = losses.where(member=seed)["value"]
            for layer, stds in enumerate(of_layers, start=1):
                rows.append(
                    {
                        "stage": "training",
                        "scheme": scheme,
                        "seed": seed,
                        "layer": layer,
                        "width": config.trained_width,
                        "updates": config.updates,
                        "std_by_tenth": _by_tenth(stds),
                        "loss_by_tenth": [float(part.mean()) for part in np.array_split(loss, 10)],
                        "seconds": took[seed],
                    }
                )
    return rows


def _by_tenth(stds: NDArray[np.float64]) -> list[float]:
    """The geometric mean over each tenth of the samples: one wild batch counts as one, however large its gradients."""
    return [float(np.exp(np.log(part).mean())) for part in np.array_split(stds, 10)]


def read_histograms(reader: RunReader, config: Config, what: str) -> dict[str, Histograms]:
    """Edges and counts of a key of SPREADS in every hidden layer at the start, for each scheme."""
    name = f"start-{config.seed}"
    if name not in reader.checkpoints():
        return {}
    tensors = reader.load(name).tensors
    return {
        scheme: (tensors[f"{scheme}/{what}/edges"].numpy(), tensors[f"{scheme}/{what}/counts"].numpy())
        for scheme in SCHEMES
    }
