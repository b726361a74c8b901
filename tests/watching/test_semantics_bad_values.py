"""NaN and infinity: the step and site of the first, and the counts."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.nn import HighwayStack
from thruway.watching import Trace, watch
from thruway.watching.trace.steps import BadValue

LAYERS, STEPS, BATCH, WIDTH = 4, 6, 5, 3


@dataclasses.dataclass
class Spoil:
    """At one step and layer, set some elements: of the output, or of the gradient with respect to it."""

    step: int
    layer: int
    where: str = "forward"
    value: float = math.nan
    count: int = 1


class Injected(torch.autograd.Function):
    """Passes its input on, with elements replaced in the forward or in the backward pass."""

    @staticmethod
    def forward(ctx, x: Tensor, spoil: Spoil | None) -> Tensor:  # type: ignore[no-untyped-def,override]
        ctx.spoil = spoil
        return spoiled(x, spoil, "forward")

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def,override]
        return spoiled(gradient, ctx.spoil, "backward"), None


def spoiled(x: Tensor, spoil: Spoil | None, where: str) -> Tensor:
    x = x.clone()
    if spoil is not None and spoil.where == where:
        x.view(-1)[: spoil.count] = spoil.value
    return x


class Layer(nn.Module):
    """Its own output is made non-finite; the output of `tanh` before it is not, unless the layer below was."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, spoil: Spoil | None) -> Tensor:
        y: Tensor = Injected.apply(torch.tanh(self.map(x)), spoil)
        return y


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, x: Tensor, spoil: Spoil | None = None) -> Tensor:
        for index, layer in enumerate(self.layers):
            x = layer(x, spoil if spoil is not None and spoil.layer == index else None)
        return x


def train(net: Net, spoil: Spoil | None, *, gives_optimizer: bool = True) -> Trace:
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    generator = torch.Generator().manual_seed(0)
    with watch(net, optimizer=optimizer if gives_optimizer else None) as trace:
        for step in range(STEPS):
            optimizer.zero_grad()
            x = torch.randn(BATCH, WIDTH, generator=generator)
            net(x, spoil if spoil is not None and spoil.step == step else None).sum().backward()
            optimizer.step()
    return trace


@pytest.mark.parametrize("gives_optimizer", [False, True])
@pytest.mark.parametrize(("value", "count"), [(math.nan, 1), (math.inf, 2), (-math.inf, 7)])
@pytest.mark.parametrize("layer", range(LAYERS))
def test_a_bad_output_is_found_at_its_layer_and_step(
    layer: int, value: float, count: int, gives_optimizer: bool
) -> None:
    step = (layer * 2 + count) % STEPS
    trace = train(Net(), Spoil(step, layer, "forward", value, count), gives_optimizer=gives_optimizer)
    bad = trace.first_bad
    assert bad is not None
    assert (bad.step, bad.site.kind, bad.site.name) == (step, "output", f"layers.{layer}")
    assert (bad.nan, bad.inf) == ((count, 0) if math.isnan(value) else (0, count))


@pytest.mark.parametrize("layer", range(1, LAYERS))
def test_a_bad_gradient_is_found_where_the_backward_pass_meets_it_first(layer: int) -> None:
    """It arises below layer `layer`'s own output: the first site it is seen at is the tanh underneath."""
    step = (3 * layer) % STEPS
    bad = train(Net(), Spoil(step, layer, "backward", math.inf, 2)).first_bad
    assert bad is not None
    assert (bad.step, bad.site.kind, bad.site.name) == (step, "gradient", f"layers.{layer}.map.tanh")
    assert (bad.nan, bad.inf) == (0, 2)


@pytest.mark.parametrize("layer", range(LAYERS))
def test_a_bad_weight_is_found_before_what_it_spoils(layer: int) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with watch(net, optimizer=optimizer) as trace:
        for step in range(STEPS):
            optimizer.zero_grad()
            if step == 3:
                with torch.no_grad():
                    net.layers[layer].map.weight[1, :2] = math.nan  # type: ignore[union-attr,index]
            net(torch.ones(BATCH, WIDTH)).sum().backward()
            optimizer.step()
    bad = trace.first_bad
    assert bad is not None
    assert (bad.step, bad.site.kind, bad.site.name) == (3, "parameter", f"layers.{layer}.map.weight")
    assert (bad.nan, bad.inf) == (2, 0)


def test_a_step_that_blows_up_is_found_as_an_update() -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with watch(net, optimizer=optimizer) as trace:
        for step in range(STEPS):
            optimizer.zero_grad()
            net(torch.ones(BATCH, WIDTH)).sum().backward()
            if step == 2:
                optimizer.param_groups[0]["lr"] = math.inf
            optimizer.step()
    bad = trace.first_bad
    assert bad is not None
    assert (bad.step, bad.site.kind) == (2, "update")


def test_the_finite_values_of_a_spoilt_tensor_are_still_measured() -> None:
    with torch.random.fork_rng(devices=[]):  # a mean near 0 would be outside of the relative tolerance
        torch.manual_seed(0)
        net = Net()
    x = torch.randn(BATCH, WIDTH, generator=torch.Generator().manual_seed(1))
    spoil = Spoil(0, 1, "forward", math.nan, 4)
    with watch(net) as trace:
        net(x, spoil).sum().backward()
    h = torch.tanh(net.layers[0].map(x))  # type: ignore[operator,union-attr]
    left = torch.tanh(net.layers[1].map(h)).flatten()[4:].double()  # type: ignore[operator,union-attr]
    at = trace.series("mean").names.index("layers.1")
    # float32 sums of eleven numbers below 1
    assert trace.series("mean").values[at, 0] == pytest.approx(left.mean().item(), rel=1e-5)
    assert trace.series("std").values[at, 0] == pytest.approx(left.std(correction=0).item(), rel=1e-5)
    assert trace.series("nan").values[at, 0] == 4


def test_healthy_training_has_no_first_bad_value() -> None:
    """The alarm that the tests above see ring is silent here."""
    trace = train(Net(), None)
    assert trace.first_bad is None
    assert trace.series("nan").values.sum() == 0


@pytest.mark.parametrize("layer", [0, 2, 3])
def test_a_bad_layer_inside_a_stack_is_found(layer: int) -> None:
    stack = HighwayStack(WIDTH, LAYERS)
    net = nn.Sequential(stack)
    with watch(net) as trace:
        for step in range(STEPS):
            if step == 4:
                with torch.no_grad():
                    stack.bias[layer, 1] = math.inf  # one unit's transform, for every input
            net(torch.ones(BATCH, WIDTH)).sum().backward()
    bad: BadValue | None = trace.first_bad
    assert bad is not None
    assert (bad.step, bad.site.name) == (4, f"0.{layer}.activation")
    assert (bad.nan, bad.inf) == (0, BATCH)


def test_in_place_operations_do_not_hide_what_they_overwrite() -> None:
    """relu(-inf) is 0: the infinity is gone from memory when the block ends."""

    class Hides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.map(x), inplace=True)

    net = Hides()
    with watch(net) as trace:
        for step in range(STEPS):
            x = torch.ones(BATCH, WIDTH)
            if step == 4:
                with torch.no_grad():
                    net.map.bias[0] = -math.inf
            net(x).sum().backward()
    assert trace.first_bad is not None
    assert (trace.first_bad.step, trace.first_bad.site.name, trace.first_bad.inf) == (4, "map", BATCH)
