"""Errors for quantities that a trace does not have: each says how to record them."""

from typing import Any

import pytest
import torch
from torch import nn

from thruway.errors import ConfigError
from thruway.watching import DEFAULT, Trace, watch
from thruway.watching.trace.derived import DERIVED


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.tanh(self.inner(x))


def watched(net: nn.Module | None = None, *, with_optimizer: bool = False, **options: Any) -> Trace:
    net = Block() if net is None else net
    optimizer = torch.optim.SGD(net.parameters(), 0.1) if with_optimizer else None
    with watch(net, optimizer=optimizer, **options) as trace:
        net(torch.ones(5, 3)).sum().backward()
        if optimizer is not None:
            optimizer.step()
    return trace


def test_all_that_is_derived_is_explained() -> None:
    trace = watched(with_optimizer=True)
    for name, row in DERIVED.items():
        assert trace.series(name, row.kind).sites
        assert trace.figure(name).data


@pytest.mark.parametrize("name", DERIVED)
def test_a_derived_name_among_the_quantities_says_what_it_follows_from(name: str) -> None:
    row = DERIVED[name]
    sources = " and ".join(map(repr, row.needs))
    also = " and pass optimizer=" if row.needs_optimizer else ""
    message = (
        f"{name!r} is derived from {sources} at .*, so it is not measured.* include {sources}{also}, and read it with"
    )
    with pytest.raises(ConfigError, match=message):
        watch(Block(), quantities=[*DEFAULT, name])


def test_a_slip_in_a_derived_name_leads_to_it() -> None:
    with pytest.raises(ConfigError, match="unknown quantity 'update_rate'; did you mean 'update_ratio'"):
        watch(Block(), quantities=["update_rate"])


# A request to a trace without optimizer -> the error.
WITHOUT_OPTIMIZER: dict[str, tuple[Any, str]] = {
    "figure of a ratio": (
        lambda t: t.figure("update_ratio"),
        r"'update_ratio' is derived from 'norm'.*Pass optimizer=",
    ),
    "series of a ratio": (
        lambda t: t.series("update_ratio"),
        r"'update_ratio' is derived from 'norm'.*Pass optimizer=",
    ),
    "series of updates": (lambda t: t.series("update_ratio", "update"), "Pass optimizer="),
    "a norm": (lambda t: t.figure("norm"), r"there is no 'norm', because parameters were not watched.*Pass optimizer="),
    "a norm of outputs": (lambda t: t.series("norm"), "Pass optimizer="),
    "weights' spread": (
        lambda t: t.figure("std", "parameter"),
        "'std' was not measured at parameters, but at 'output'",
    ),
    "weights' rank": (lambda t: t.series("rms", "parameter_gradient"), "Pass optimizer="),
    "a slip": (lambda t: t.series("sdt"), "unknown quantity 'sdt'; did you mean 'std'"),
    "a slip in a kind": (lambda t: t.series("std", "gradients"), "unknown kind of site 'gradients'; did you mean"),
    "by name only": (lambda t: t.series("p98"), r"To record it, watch with quantities=\[\*DEFAULT, 'p98'\]"),
}


@pytest.mark.parametrize("case", WITHOUT_OPTIMIZER)
def test_without_an_optimizer(case: str) -> None:
    ask, message = WITHOUT_OPTIMIZER[case]
    with pytest.raises(ConfigError, match=message):
        ask(watched())


def test_with_an_optimizer_the_error_names_the_kind() -> None:
    trace = watched(with_optimizer=True)
    with pytest.raises(ConfigError, match=r"'update_ratio' was not measured at outputs, but at 'update'. Pass one of"):
        trace.series("update_ratio", "output")
    assert trace.series("update_ratio").kind == "update"
    trace = watched(with_optimizer=True, quantities=["mean"])
    message = "'update_ratio' is derived from 'norm' at .*, and this trace has none.* with 'norm' among the quantities"
    with pytest.raises(ConfigError, match=message):
        trace.figure("update_ratio")


def test_a_model_without_such_sites_has_an_error() -> None:
    trace = watched(nn.Sequential(nn.Linear(3, 3)))
    for name in ("branch_ratio", "saturation"):
        with pytest.raises(
            ConfigError, match=f"{name!r} is derived from .*, and this trace has none. Watch a model with"
        ):
            trace.series(name)
