"""Spread of signals and gradients in the layers of untrained networks, measured and predicted."""

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from thruway import activations, init
from thruway.experiments.glorot2010.initialization import SCHEMES, Config, Net, Scheme, predict, start_nets
from thruway.experiments.glorot2010.streams import Parts
from thruway.runs import Run, RunReader
from thruway.seeding import generator
from thruway.watching import QUANTITIES, Trace, layer_jacobian, watch

__all__ = [
    "SPREADS",
    "Histograms",
    "PrefixedLog",
    "Spread",
    "build_net",
    "hidden_layer",
    "measure_start",
    "read_histograms",
    "read_start_rows",
]


def build_net(
    widths: Sequence[int], classes: int, activation: str, scheme: Scheme, generator: torch.Generator
) -> nn.Sequential:
    """Build the layers s1, z1, s2, z2, ..., named by the paper's letters, and the linear `output`; biases are 0.

    The same generator gives both schemes the same random numbers, scaled, so that networks can be compared in pairs.

    Args:
        widths: number of inputs, followed by the number of units of each hidden layer.
        classes: number of outputs.
        activation: a key of ACTIVATIONS.
        scheme: a key of SCHEMES.
        generator: generator of the initial weights.

    >>> net = build_net([4, 3, 2], 5, "tanh", "normalized", torch.Generator().manual_seed(0))
    >>> [name for name, _ in net.named_children()]
    ['s1', 'z1', 's2', 'z2', 'output']
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
        layers[f"s{number}"] = _linear(fan_in, fan_out)
        layers[f"z{number}"] = activations.activation_module(activation)
    layers["output"] = _linear(widths[-1], classes)
    net = nn.Sequential(layers)
    init.initialize(net, SCHEMES[scheme], generator=generator, gain=1.0)
    return net


def hidden_layer(net: nn.Sequential, number: int) -> nn.Sequential:
    """Return hidden layer `number`, counted from 1: the map from z^{i-1} to z^i."""
    return nn.Sequential(*list(net.children())[2 * number - 2 : 2 * number])


def _linear(fan_in: int, fan_out: int) -> nn.Linear:
    # nn.Linear draws from the global generator as it is built; on the meta device it draws nothing.
    return nn.Linear(fan_in, fan_out, device="meta").to_empty(device="cpu")


# --- measurement: one pass forward and back over the held-out examples, and the layers' Jacobians


class Spread(NamedTuple):
    """A quantity whose distribution the paper shows layer by layer."""

    kind: Literal["output", "gradient", "parameter_gradient"]  # of site, as in thruway.watching
    site: str  # name of the site, with {} for the number of the layer
    name: str


SPREADS = {
    "activations": Spread("output", "z{}", "activation"),
    "gradients": Spread("gradient", "s{}", "dC/ds"),
    "weight gradients": Spread("parameter_gradient", "s{}.weight", "dC/dW"),
}
"""The quantities of figs. 6, 7 and 8."""

_KINDS = tuple(spread.kind for spread in SPREADS.values())
_RMS, _HISTOGRAM = (dataclasses.replace(QUANTITIES[name], kinds=_KINDS) for name in ("rms", "histogram"))

_EXACT = 1 << 20  # up to this many units, all singular values of a layer's Jacobian are computed, none is sampled


class PrefixedLog:
    """Writes a trace into a run, with a prefix before the names of its sites, as the numbers of one member."""

    def __init__(self, run: Run, prefix: str, member: int) -> None:
        self._run = run
        self._prefix = prefix
        self._member = member

    def log_sites(self, step: int, quantity: str, sites: Sequence[str], values: Any) -> None:
        """Log one quantity at many sites of one step."""
        self._run.log_sites(step, quantity, [f"{self._prefix}/{site}" for site in sites], values, self._member)


def measure_start(config: Config, net: Net, seed: int, parts: Parts, run: Run) -> dict[str, Tensor]:
    """Log activations and gradients in the layers of one untrained network, on the held-out examples.

    The cost is the sum over examples, so that each gradient of an activation is that of one example.

    Returns:
        The histograms of a network shown in figs. 6 to 8, one row per layer: the keys are a key of SPREADS followed by
        "/edges" or "/counts". Empty for other networks.
    """
    images, labels = parts.test
    # Both schemes and both activations take the same random numbers.
    weights = generator(seed, "weights", net.shape)
    widths = (parts.inputs, *config.widths(net.shape))
    model = build_net(widths, parts.classes, net.activation, net.scheme, weights).to(config.device)
    is_shown = (net.shape, net.activation, seed) == ("equal", "tanh", config.seed)  # one network, as in the paper
    quantities = [_RMS, *([_HISTOGRAM] if is_shown else [])]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)  # weight gradients are recorded at its step
    with watch(model, quantities=quantities, optimizer=optimizer, run=PrefixedLog(run, net.site, seed)) as trace:
        F.cross_entropy(model(images), labels, reduction="sum").backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    _log_singles(config, net, seed, parts, model, optimizer, run)
    if net.shape == "equal":
        _log_singular_values(config, net, seed, images, model, run)
    return _histograms(trace, config.depth) if is_shown else {}


def _histograms(trace: Trace, depth: int) -> dict[str, Tensor]:
    tables = {}
    for what, spread in SPREADS.items():
        found = trace.histograms(spread.kind)
        rows = [found.names.index(spread.site.format(layer)) for layer in range(1, depth + 1)]
        tables[f"{what}/edges"] = torch.from_numpy(found.edges[rows])
        tables[f"{what}/counts"] = torch.from_numpy(found.counts[rows])
    return tables


def _log_singles(
    config: Config,
    net: Net,
    seed: int,
    parts: Parts,
    model: nn.Sequential,
    optimizer: torch.optim.Optimizer,
    run: Run,
) -> None:
    """Log the mean square of the weight gradients of single examples, averaged over examples, as in eq. 7."""
    images, labels = (each[: config.singles] for each in parts.test)
    with watch(model, quantities=[_RMS], optimizer=optimizer) as trace:
        for image, label in zip(images.unsqueeze(1), labels.unsqueeze(1), strict=True):
            optimizer.zero_grad()
            F.cross_entropy(model(image), label).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    gradients, weights = trace.series("rms", "gradient"), trace.series("rms", "parameter_gradient")
    top = gradients.values[gradients.names.index(f"s{config.depth}")] ** 2
    product = images.double().square().mean(dim=1).cpu().numpy() * top
    run.log(0, {"single_product": float(product.mean())}, site=net.site, member=seed)
    sites = [f"{net.site}/{name}" for name in weights.names]
    run.log_sites(0, "single_variance", sites, (weights.values**2).mean(axis=1), seed)


def _log_singular_values(config: Config, net: Net, seed: int, images: Tensor, model: nn.Sequential, run: Run) -> None:
    # A linear layer has the same Jacobian everywhere.
    z = images[: config.singles if net.activation == "tanh" else 1]
    for number in range(1, config.depth + 1):
        layer = hidden_layer(model, number)
        mean = layer_jacobian(layer, z, exact_up_to=_EXACT).mean_singular_value
        run.log(0, {"singular_value": mean}, site=f"{net.site}/s{number}", member=seed)
        z = layer(z).detach()


# --- measurements read back

Row = dict[str, Any]
Histograms = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Edges, (layers, bins + 1), and counts, (layers, bins)."""

_MEASURED = (
    "output.rms",
    "gradient.rms",
    "parameter_gradient.rms",
    "singular_value",
    "single_product",
    "single_variance",
)


def read_start_rows(reader: RunReader, config: Config) -> list[Row]:
    """Return one row per hidden layer of every measured network: mean squares, and predictions for them.

    Weight gradients are those of the cost over all held-out examples; "single" ones are those of one example. Seeds
    that have not been measured completely are omitted.
    """
    seconds = reader.table(site="start", quantity="seconds")
    data = {entry["quantity"]: entry["value"] for entry in reader.table(site="data").rows()}
    values: dict[tuple[int, str, str], float] = {}
    for entry in reader.table(quantity=_MEASURED, steps=0).rows():
        values[entry["member"], entry["site"], entry["quantity"]] = entry["value"]
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
    predicted = predict(
        widths,
        net.scheme,
        data["mean_square"],
        square(f"s{config.depth}", "gradient.rms"),
        values[seed, net.site, "single_product"],
    )
    # Without an activation the output of a layer is its pre-activation, which is recorded once.
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


def read_histograms(reader: RunReader, config: Config, what: str) -> dict[str, Histograms]:
    """Return the histograms of a key of SPREADS in every hidden layer, by scheme; empty until they are stored."""
    name = f"start-{config.seed}"
    if name not in reader.checkpoints():
        return {}
    tensors = reader.load(name).tensors
    return {
        scheme: (tensors[f"{scheme}/{what}/edges"].numpy(), tensors[f"{scheme}/{what}/counts"].numpy())
        for scheme in SCHEMES
    }
