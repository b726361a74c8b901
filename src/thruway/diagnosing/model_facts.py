"""Findings from a model itself, for traces without parameters."""

from collections.abc import Iterator

import torch
from torch import nn

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Reading
from thruway.errors import ConfigError
from thruway.watching.modules import plain_name, unwrapped

__all__ = ["findings_of_model"]


def findings_of_model(model: nn.Module, reading: Reading) -> Iterator[Finding]:
    """Yield findings about parameters that a trace recorded without an optimizer does not show.

    These are weight matrices that are frozen and constant. What is in the optimizer, and what gets a gradient, cannot
    be read from the model.

    Raises:
        ConfigError: if the model is of another class than the one that was watched.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model must be a torch.nn.Module, got {type(model).__name__}. Pass the model you watched.")
    if reading.parameters:
        return
    if (name := type(unwrapped(model)).__name__) != reading.trace.model:
        raise ConfigError(
            f"the trace is of a {reading.trace.model}, but model is a {name}. Pass the model you watched."
        )
    step = int(reading.steps[0])
    for name, parameter in unwrapped(model).named_parameters():
        is_constant = parameter.dim() >= 2 and parameter.numel() > 1 and _is_constant(parameter)
        if parameter.requires_grad or not is_constant:
            continue
        path = plain_name(name)
        site = path.rpartition(".")[0] or path
        yield Finding(
            "frozen_parameters",
            f"{path} is frozen and constant: all values are equal, and requires_grad is False, so that the output "
            "carries no information.",
            (site,),
            since=(None, step),
            evidence=(
                Evidence("std", path, None, 0.0, f"the standard deviation of {path} is 0", "threshold", threshold=0.0),
                Evidence("std", path, None, 0.0, "weights that were drawn or learnt differ from each other", "theory"),
                Evidence("state", path, None, 0.0, "not frozen on purpose: it computes nothing", "ruled out"),
            ),
            cures=(CURES["unfreeze"], CURES["break_symmetry"]),
            span=(site, site),
            confidence=0.8,
        )


def _is_constant(parameter: torch.Tensor) -> bool:
    values = parameter.detach()
    return bool((values == values.reshape(-1)[0]).all())
