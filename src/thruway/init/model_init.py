"""Initialisation of a whole model."""

from typing import Literal

import torch
from torch import nn

from thruway import seeding
from thruway.errors import ConfigError
from thruway.init import scheme_table
from thruway.init.plan import Gain, plan
from thruway.init.summary import InitSummary

__all__ = ["initialize"]


def initialize(
    model: nn.Module,
    scheme: str,
    generator: torch.Generator | None = None,
    gain: Gain = "auto",
    bias: float = 0.0,
    unknown: Literal["raise", "keep"] = "raise",
) -> InitSummary:
    """Initialise every parameter of a model, and return a summary.

    Weights of dense, convolutional, recurrent and attention layers are filled by the scheme, map by map: the
    gates of an LSTM or the H and T of a highway layer have their own fans although they share a parameter.
    Norms start as the identity, embeddings with unit variance, biases at `bias`; a module with `init_parts`
    sets the start of its own biases. A shared parameter is filled once.

    All checks are made before the first write. Each map draws from its own random stream, named by its path in
    the model: the same generator gives the same bits, adding a layer elsewhere changes no other layer, and
    a fused stack gets the same numbers as the separate layers.

    Args:
        model: a module whose parameters exist and have values.
        scheme: a key of `SCHEMES`. "looks_linear" pairs up the ReLU layers of an `nn.Sequential` and
            makes every other layer orthogonal.
        generator: generator from which one number is drawn that seeds all streams. If None, PyTorch's default
            generator.
        gain: "auto" uses the gain of the activation that follows each layer (from the module's `init_parts`, or
            the next activation in an `nn.Sequential`) and 1 if it is unknown; schemes that include their gain,
            such as He's, get 1. A number multiplies the standard deviation of every weight.
        bias: initial bias of plain layers. A recurrent layer has two biases; the second one starts at 0.
        unknown: "raise" an error for parameters without a rule, or "keep" their values.
    Returns:
        The summary, one row per map: print it, or read `.rows` and `.skipped`.
    Raises:
        ConfigError: if `scheme` or `unknown` has an invalid value.
        InitError: if a parameter is lazy, is on the meta device, or has no rule; the message names it.
    Source:
        Ours; for the schemes, see their docstrings.

    >>> net = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> summary = initialize(net, "lecun_normal", generator=torch.Generator().manual_seed(0))
    >>> print(summary)
    parameter  part  done          fan_in  fan_out  gain   std  note
    0.weight         lecun_normal  8       4        1.414  0.5  gain of relu
    0.bias           constant 0                            0
    2.weight         lecun_normal  4       2        1      0.5  gain 1: next activation unknown
    2.bias           constant 0                            0
    """
    if unknown not in ("raise", "keep"):
        raise ConfigError(f'unknown={unknown!r} is not allowed: pass "raise" or "keep".')
    if isinstance(gain, str) and gain != "auto":
        raise ConfigError(f'gain={gain!r} is not allowed: pass "auto" or a number.')
    steps = plan(model, scheme_table.scheme(scheme), gain, bias, unknown)
    device = torch.device("cpu") if generator is None else generator.device
    seed = int(torch.randint(2**62, (), generator=generator, device=device))
    for step in steps:
        if step.write is not None:
            step.write(seeding.generator(seed, step.stream, device=device))
    return InitSummary(tuple(step.row for step in steps))
