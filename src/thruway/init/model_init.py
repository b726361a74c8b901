"""Initial weights for a whole model."""

from typing import Literal

import torch
from torch import nn

from thruway import seeding
from thruway.errors import ConfigError
from thruway.init import schemes
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
    """Give every parameter of a model its initial value, and say what was done to which.

    Weights of dense, convolutional, recurrent and attention layers are filled by the scheme, map by map: the
    gates of an LSTM or the H and T of a highway layer have fans of their own although they share a
    parameter. Norms start as the identity, embeddings with unit variance, biases at `bias`; a module with
    `init_parts` says itself where its biases start. A shared parameter is filled once.

    Everything is checked before anything is written. Each map draws from its own stream, named by its path in
    the model: the same generator gives the same bits, another layer elsewhere changes nothing, and
    a fused stack gets the numbers of the layers it stands for.

    Args:
        model: any module whose parameters exist and hold numbers.
        scheme: a key of `SCHEMES`. "looks_linear" pairs up the ReLU layers of an `nn.Sequential` and
            makes every other layer orthogonal.
        generator: draws one number, from which all streams follow; None: torch's default generator.
        gain: "auto" takes each layer's from the activation that follows (as the module tells, or as
            the next one in an `nn.Sequential`) and 1 where it is not known; schemes with a gain of their own,
            such as He's, get 1. A number multiplies every weight's standard deviation.
        bias: where the biases of plain layers start. A recurrent layer has two that add up; the
            second starts at 0.
        unknown: "raise", or "keep" to leave parameters that no rule covers as they are.
    Returns:
        One row per map: print it, or read `.rows` and `.skipped`.
    Raises:
        ConfigError: if the scheme or `unknown` is not known.
        InitError: naming the parameter, if one is lazy, on the meta device, or covered by no rule.
    Source:
        Ours; the schemes name theirs.

    >>> net = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> summary = initialize(net, "lecun_normal", generator=torch.Generator().manual_seed(0))
    >>> print(summary)
    parameter  part  done          fan_in  fan_out  gain   std  note
    0.weight         lecun_normal  8       4        1.414  0.5  gain of relu
    0.bias           constant 0                            0
    2.weight         lecun_normal  4       2        1      0.5  gain 1: what follows is not known
    2.bias           constant 0                            0
    """
    if unknown not in ("raise", "keep"):
        raise ConfigError(f'unknown={unknown!r} is not allowed: pass "raise" or "keep".')
    if isinstance(gain, str) and gain != "auto":
        raise ConfigError(f'gain={gain!r} is not allowed: pass "auto" or a number.')
    steps = plan(model, schemes.scheme(scheme), gain, bias, unknown)
    device = torch.device("cpu") if generator is None else generator.device
    seed = int(torch.randint(2**62, (), generator=generator, device=device))
    for step in steps:
        if step.write is not None:
            step.write(seeding.generator(seed, step.stream, device=device))
    return InitSummary(tuple(step.row for step in steps))
