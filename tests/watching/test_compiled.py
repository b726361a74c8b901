"""Under torch.compile, sampled steps run eagerly and the others compiled, or watch raises an error."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.errors import ConfigError
from thruway.watching import Trace, watch
from thruway.watching.sites import KINDS

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + torch.tanh(self.body(x)))


@dataclasses.dataclass
class Graphs:
    """A backend that runs a graph as it is and counts: how often one was made, how often one ran."""

    made: int = 0
    ran: list[int] = dataclasses.field(default_factory=list)
    step: int = -1

    def __call__(self, graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Callable[..., Any]:
        self.made += 1

        def run(*arguments: Any) -> Any:
            self.ran.append(self.step)
            return graph.forward(*arguments)

        return run


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def net() -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return Net().double()


def batch(step: int) -> Tensor:
    return torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(step))


STEPS = 7


def train(model: Net, called: Callable[[Tensor], Tensor], graphs: Graphs, watched: nn.Module, **options: Any) -> Trace:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    given = optimizer if options.pop("gives_optimizer") else None
    with watch(watched, optimizer=given, **options) as trace:
        for graphs.step in range(STEPS):
            optimizer.zero_grad()
            F.mse_loss(called(batch(graphs.step)), torch.ones(5, 2, dtype=torch.float64)).backward()
            optimizer.step()
    return trace


def assert_same_numbers(one: Trace, other: Trace, *, has_parameters: bool) -> None:
    for kind in KINDS if has_parameters else ("output", "gradient"):
        for quantity in one.quantities(kind):
            ours, theirs = one.series(quantity, kind), other.series(quantity, kind)
            assert ours.names == theirs.names
            assert ours.steps.tolist() == theirs.steps.tolist()
            np.testing.assert_allclose(ours.values, theirs.values, 1e-12, 1e-15, err_msg=f"{quantity} of {kind}")


@pytest.mark.parametrize(("gives_optimizer", "watches_wrapper"), [(True, True), (True, False), (False, True)])
def test_sampled_steps_agree_with_eager_and_the_others_run_compiled(
    gives_optimizer: bool, watches_wrapper: bool
) -> None:
    plain = net()
    eager = train(plain, plain, Graphs(), plain, every=3, gives_optimizer=gives_optimizer)
    model, graphs = net(), Graphs()
    compiled = torch.compile(model, backend=graphs)
    watched = compiled if watches_wrapper else model
    trace = train(model, compiled, graphs, watched, every=3, gives_optimizer=gives_optimizer)
    assert trace.steps == eager.steps == [0, 3, 6]
    assert trace.model == "Net"
    assert_same_numbers(trace, eager, has_parameters=gives_optimizer)
    assert graphs.ran == [1, 2, 4, 5]
    assert graphs.made == 1, "watching makes the compiler start again"


def test_a_model_that_ran_compiled_before_is_recorded() -> None:
    """Hooks that come after the compilation are not run by compiled code."""
    model, graphs = net(), Graphs()
    compiled = torch.compile(model, backend=graphs)
    compiled(batch(0)).sum().backward()
    assert graphs.ran == [-1]
    with watch(compiled, quantities=["mean"]) as trace:
        compiled(batch(1)).sum().backward()
    assert graphs.ran == [-1]
    assert trace.series("mean").names == ["body.0", "body.1", "body.1.tanh", "add", "add.shortcut", "head"]
    body = model.body[0](batch(1)).mean().item()
    assert trace.series("mean").values[0, 0] == pytest.approx(body, rel=1e-12)
    compiled(batch(2))
    assert graphs.ran == [-1, -1], "after the block it runs compiled again"
    assert graphs.made == 1


def test_a_compiled_part_of_a_model_is_recorded_under_its_plain_name() -> None:
    model, graphs = net(), Graphs()
    model.body = torch.compile(model.body, backend=graphs)  # type: ignore[assignment]
    trace = train(model, model, graphs, model, every=2, gives_optimizer=True)
    plain = net()
    eager = train(plain, plain, Graphs(), plain, every=2, gives_optimizer=True)
    assert_same_numbers(trace, eager, has_parameters=True)
    assert graphs.ran == [1, 3, 5]


def test_a_model_compiled_in_place_needs_the_optimizer() -> None:
    model, graphs = net(), Graphs()
    model.compile(backend=graphs)
    with pytest.raises(ConfigError, match=r"Net was compiled in place by model.compile\(\).*Pass optimizer="):
        watch(model)
    trace = train(model, model, graphs, model, every=3, gives_optimizer=True)
    plain = net()
    eager = train(plain, plain, Graphs(), plain, every=3, gives_optimizer=True)
    assert_same_numbers(trace, eager, has_parameters=True)
    assert graphs.ran == [1, 2, 4, 5]


@pytest.mark.parametrize("ran_before", [False, True])
def test_the_model_inside_of_a_compiled_one_is_refused(ran_before: bool) -> None:
    model = net()
    compiled = torch.compile(model, backend="eager")
    if ran_before:
        compiled(batch(0))
    with pytest.raises(ConfigError, match=r"Watch what torch\.compile returned"), watch(model):
        compiled(batch(1)).sum().backward()


@pytest.mark.parametrize("fullgraph", [False, True])
def test_a_whole_compiled_step_is_refused_or_recorded(fullgraph: bool) -> None:
    model, graphs = net(), Graphs()

    @torch.compile(backend=graphs, fullgraph=fullgraph)
    def loss_of(x: Tensor) -> Tensor:
        return model(x).square().mean()

    with pytest.raises(Exception, match="compiled as a whole") as refused, watch(model):
        loss_of(batch(0)).backward()
    # Where the graph must be whole, the compiler cannot pass our error on and puts its message into its own.
    assert isinstance(refused.value, ConfigError) or fullgraph
    model(batch(0))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_whole_compiled_step_is_recorded_with_the_optimizer() -> None:
    model, graphs = net(), Graphs()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    @torch.compile(backend=graphs)
    def loss_of(x: Tensor) -> Tensor:
        return F.mse_loss(model(x), torch.ones(5, 2, dtype=torch.float64))

    with watch(model, every=3, optimizer=optimizer) as trace:
        for graphs.step in range(STEPS):
            optimizer.zero_grad()
            loss_of(batch(graphs.step)).backward()
            optimizer.step()
    plain = net()
    eager = train(plain, plain, Graphs(), plain, every=3, gives_optimizer=True)
    assert_same_numbers(trace, eager, has_parameters=True)
    assert set(graphs.ran) == {1, 2, 4, 5}


def test_an_optimizer_stepped_inside_of_compiled_code_is_refused_on_steps_that_would_be_compiled() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    update = torch.compile(lambda: optimizer.step(), backend="eager")

    def loop() -> None:
        for step in range(4):
            model(batch(step)).square().mean().backward()
            update()

    loop()
    with watch(model, optimizer=optimizer) as trace:
        loop()
    assert trace.steps == [0, 1, 2, 3]
    refused = pytest.raises(ConfigError, match=r"SGD.step\(\) is called by code.*or watch every step")
    with refused, watch(model, every=2, optimizer=optimizer):
        loop()
