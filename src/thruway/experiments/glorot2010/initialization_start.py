"""One net's start, watched: one pass forward and back over the held-out examples, and its layers' Jacobians."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.experiments.glorot2010.initialization import Config, Net
from thruway.experiments.glorot2010.initialization_data import Parts
from thruway.experiments.glorot2010.initialization_nets import build_net, hidden_layer
from thruway.runs import Run
from thruway.seeding import generator
from thruway.watching import QUANTITIES, Trace, watch
from thruway.watching.jacobian import layer_jacobian
from thruway.watching.sites import Kind

__all__ = ["SPREADS", "Spread", "Under", "measure_start"]


class Spread(NamedTuple):
    """One of the three things whose spread the paper follows through the layers."""

    kind: Kind  # of site, as watch names it
    site: str  # the site's name, with {} for the number of the layer
    name: str


SPREADS = {
    "activations": Spread("output", "z{}", "activation"),
    "gradients": Spread("gradient", "s{}", "dC/ds"),
    "weight gradients": Spread("parameter_gradient", "s{}.weight", "dC/dW"),
}
"""Figs. 6, 7 and 8."""

_KINDS = tuple(spread.kind for spread in SPREADS.values())
_RMS, _HISTOGRAM = (dataclasses.replace(QUANTITIES[name], kinds=_KINDS) for name in ("rms", "histogram"))

_EXACT = 1 << 20  # units of a layer whose Jacobian is decomposed instead of sampled: all of them


class Under:
    """A run whose sites get a path in front and whose numbers belong to one member: what a trace writes to."""

    def __init__(self, run: Run, path: str, member: int) -> None:
        self._run = run
        self._path = path
        self._member = member

    def log_sites(self, step: int, quantity: str, sites: Sequence[str], values: Any) -> None:
        """One quantity at many sites of one step."""
        self._run.log_sites(step, quantity, [f"{self._path}/{site}" for site in sites], values, self._member)


def measure_start(config: Config, net: Net, seed: int, parts: Parts, run: Run) -> dict[str, Tensor]:
    """Log what the layers of one net do with the held-out examples before it has learnt anything.

    The cost is the sum over examples, so that gradients of activations are those of one example each.

    Returns:
        Histograms of the nets that figs. 6 to 8 show, else nothing: a key of SPREADS and "/edges" or "/counts" -> a
        row per layer.
    """
    images, labels = parts.probe
    # Both schemes and both activations take the same random numbers.
    weights = generator(seed, "weights", net.shape)
    widths = (parts.inputs, *config.widths(net.shape))
    model = build_net(widths, parts.classes, net.activation, net.scheme, weights).to(config.device)
    is_shown = (net.shape, net.activation, seed) == ("equal", "tanh", config.seed)  # one net, as in the paper
    quantities = [_RMS, *([_HISTOGRAM] if is_shown else [])]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)  # its step is when gradients of weights are heard
    with watch(model, quantities=quantities, optimizer=optimizer, run=Under(run, net.site, seed)) as trace:
        F.cross_entropy(model(images), labels, reduction="sum").backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    _log_singles(config, net, seed, parts, model, optimizer, run)
    if net.shape == "equal":
        _log_singular_values(config, net, seed, images, model, run)
    return _histograms(trace, config.depth) if is_shown else {}


def _histograms(trace: Trace, depth: int) -> dict[str, Tensor]:
    found = {}
    for what, spread in SPREADS.items():
        seen = trace.histograms(spread.kind)
        rows = [seen.names.index(spread.site.format(layer)) for layer in range(1, depth + 1)]
        found[f"{what}/edges"] = torch.from_numpy(seen.edges[rows])
        found[f"{what}/counts"] = torch.from_numpy(seen.counts[rows])
    return found


def _log_singles(
    config: Config,
    net: Net,
    seed: int,
    parts: Parts,
    model: nn.Sequential,
    optimizer: torch.optim.Optimizer,
    run: Run,
) -> None:
    """The gradients of weights of one example at a time, which is what eq. 7 is about; means over the examples."""
    images, labels = (each[: config.singles] for each in parts.probe)
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
        stretch = layer_jacobian(layer, z, exact_up_to=_EXACT).mean_singular_value
        run.log(0, {"singular_value": stretch}, site=f"{net.site}/s{number}", member=seed)
        z = layer(z).detach()
