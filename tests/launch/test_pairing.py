"""Each optimizer is paired with the module that it updates, before that module's first forward pass."""

import copy
import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from thruway.launch import saving, session
from thruway.launch.options import WatchSettings
from thruway.launch.ownership import live_optimizers
from thruway.launch.session import PATIENCE, Session
from thruway.watching import Trace, watch

ORIGINALS = nn.Module.__call__, torch.optim.Optimizer.__init__, torch.amp.GradScaler.__init__
BACKWARD = torch.autograd.backward, vars(nn.Module).get("__reduce_ex__")
STEPS = 3


class Watching:
    """An open session, and what it said."""

    def __init__(self, every: int = 1) -> None:
        self.said: list[str] = []
        self.session = Session(WatchSettings(every), self.said.append)
        self.session.open()

    def close(self) -> dict[str, Trace]:
        self.session.close()
        assert (nn.Module.__call__, torch.optim.Optimizer.__init__, torch.amp.GradScaler.__init__) == ORIGINALS
        assert not _global_optimizer_pre_hooks
        assert not _global_optimizer_post_hooks
        return {each.title: each.trace for each in self.session.recordings}


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Watching]]:
    gc.collect()
    others = live_optimizers()  # of other tests in this process
    monkeypatch.setattr(
        session, "live_optimizers", lambda: [o for o in live_optimizers() if not any(o is other for other in others)]
    )
    opened: list[Watching] = []

    def begin(*arguments: Any) -> Watching:
        opened.append(Watching(*arguments))
        return opened[-1]

    yield begin
    for each in opened:
        each.close()


def net(inputs: int = 4, outputs: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, outputs))


class Generator(nn.Sequential):
    """A class with a name."""


class Discriminator(nn.Sequential):
    """Another."""


def generator() -> Generator:
    return Generator(*net(4, 6))


def discriminator() -> Discriminator:
    return Discriminator(*net(6, 1))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = STEPS, inputs: int = 4) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(5, inputs)).square().mean().backward()
        optimizer.step()


def is_waiting() -> bool:
    return nn.Module.__call__ is not ORIGINALS[0]


def names(trace: Trace, kind: str = "output") -> list[str]:
    return [site.name for site in trace.sites if site.kind == kind]


def test_the_numbers_are_those_of_watch(begin: Any) -> None:
    torch.manual_seed(0)
    model = net()
    twin = copy.deepcopy(model)
    watching = begin()
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    assert is_waiting()
    train(model, optimizer)
    assert not is_waiting()
    (found,) = watching.close().values()
    other = torch.optim.Adam(twin.parameters(), 0.1)
    with watch(twin, optimizer=other) as wanted:
        train(twin, other)
    assert found.model == "Sequential (Adam #0)"
    assert found.steps == wanted.steps == [0, 1, 2]
    assert [repr(site) for site in found.sites] == [repr(site) for site in wanted.sites]
    assert found.series("std", "gradient").values.tolist() == wanted.series("std", "gradient").values.tolist()
    assert found.series("norm", "update").values.tolist() == wanted.series("norm", "update").values.tolist()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert watching.said == []


def test_two_optimizers_of_a_gan(begin: Any) -> None:
    """The generator is called without gradients first, and its optimizer waits."""
    watching = begin()
    d, g = discriminator(), generator()
    for_d, for_g = torch.optim.Adam(d.parameters()), torch.optim.SGD(g.parameters(), 0.1)
    loss = nn.BCEWithLogitsLoss()
    for _ in range(STEPS):
        for_d.zero_grad()
        with torch.no_grad():
            fake = g(torch.ones(5, 4))
        (loss(d(torch.ones(5, 6)), torch.ones(5, 1)) + loss(d(fake), torch.zeros(5, 1))).backward()
        for_d.step()
        for_g.zero_grad()
        loss(d(g(torch.ones(5, 4))), torch.ones(5, 1)).backward()
        for_g.step()
        assert not is_waiting()
    traces = watching.close()
    assert [*traces] == ["Discriminator (Adam #0)", "Generator (SGD #1)"]
    for trace in traces.values():
        assert trace.steps == [0, 1, 2]
        assert names(trace) == ["0", "1", "2"] or names(trace)[:3] == ["0", "1", "2"]
    assert watching.said == []


def test_both_networks_inside_one_module(begin: Any) -> None:
    class Gan(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.g, self.d = generator(), discriminator()

        def forward(self, x: Tensor) -> Tensor:
            return self.d(self.g(x))

    watching = begin()
    gan = Gan()
    optimizers = [torch.optim.SGD(part.parameters(), 0.1) for part in (gan.g, gan.d)]
    for _ in range(STEPS):
        gan(torch.ones(5, 4)).mean().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    assert [*watching.close()] == ["Generator (SGD #0)", "Discriminator (SGD #1)"]


def test_two_optimizers_of_the_same_layers(begin: Any) -> None:
    """Matrices and biases, as with Muon: both record the whole model."""
    watching = begin()
    model = net()
    weights = torch.optim.SGD([p for p in model.parameters() if p.dim() > 1], 0.1)
    biases = torch.optim.Adam([p for p in model.parameters() if p.dim() < 2])
    for _ in range(STEPS):
        model(torch.ones(5, 4)).mean().backward()
        weights.step()
        biases.step()
    traces = watching.close()
    assert [*traces] == ["Sequential (SGD #0)", "Sequential (Adam #1)"]
    assert [names(trace, "update") for trace in traces.values()] == [["0.weight", "2.weight"], ["0.bias", "2.bias"]]


def test_an_optimizer_of_several_roots(begin: Any) -> None:
    """Encoder and decoder that no module contains: a recording of the pair."""
    watching = begin()
    encoder, decoder = generator(), discriminator()
    optimizer = torch.optim.SGD([*encoder.parameters(), *decoder.parameters()], 0.1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        decoder(encoder(torch.ones(5, 4))).mean().backward()
        optimizer.step()
    ((title, trace),) = watching.close().items()
    assert title == "Generator + Discriminator (SGD #0)"
    parts = ["generator.0", "generator.1", "generator.2", "discriminator.0", "discriminator.1", "discriminator.2"]
    assert names(trace)[:6] == parts
    assert trace.steps == [0, 1, 2]
    assert len(trace.series("norm", "update").names) == 8


class Net(nn.Module):
    """A model of functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x)))


class Model(nn.Module):
    """Two parts, one of which shares its weight with the other."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = net(4, 8), nn.Linear(8, 8)
        self.head.weight = self.body[0].weight = nn.Parameter(torch.eye(8) / 2)
        self.body[0].in_features = 8

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


@pytest.mark.parametrize("calls", ["forward", "parts"])
def test_a_model_that_is_not_called_itself(begin: Any, calls: str) -> None:
    """model.forward(x), or the parts of a LightningModule: the module that contains them is recorded."""
    watching = begin()
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(STEPS):
        x = torch.ones(5, 8)
        (model.forward(x) if calls == "forward" else model.head(model.body(x))).mean().backward()
        optimizer.step()
    ((title, trace),) = watching.close().items()
    assert title == "Model (SGD #0)"
    assert names(trace)[:3] == ["body.0", "body.1", "body.2"]
    assert "head" in names(trace)
    assert trace.steps == [0, 1, 2]


def test_without_an_optimizer_calls_are_recorded(begin: Any) -> None:
    watching = begin()
    model = net()
    for _ in range(STEPS):
        model(torch.ones(5, 4)).mean().backward()
        assert not is_waiting()
        for parameter in model.parameters():
            parameter.data -= 0.1 * parameter.grad
            parameter.grad = None
    ((title, trace),) = watching.close().items()
    assert title == "Sequential"
    assert trace.steps == [0, 1, 2]
    assert watching.said == []


def test_an_optimizer_that_comes_later_takes_the_place_of_calls(begin: Any) -> None:
    watching = begin()
    model = net()
    model(torch.ones(5, 4))
    assert not is_waiting()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    assert is_waiting()
    train(model, optimizer)
    ((title, trace),) = watching.close().items()
    assert title == "Sequential (SGD #0)"
    assert trace.steps == [0, 1, 2]
    assert watching.said == []


def test_an_optimizer_of_a_copy(begin: Any) -> None:
    watching = begin()
    model = net()
    other = copy.deepcopy(model)
    optimizer = torch.optim.SGD(other.parameters(), 0.1)
    train(model, optimizer)
    assert not is_waiting()
    (recording,) = watching.session.recordings
    assert recording.is_foreign
    ((title, trace),) = watching.close().items()
    assert title == "Sequential (SGD #0)"
    assert trace.steps == [0, 1, 2]
    assert trace.quantities("update") == []


def test_a_trainable_teacher_is_not_mistaken_for_the_model(begin: Any) -> None:
    """It is called first, and the optimizer is not its own."""
    watching = begin()
    teacher, model = net(), Generator(*net())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(STEPS):
        target = teacher(torch.ones(5, 4)).detach()
        (model(torch.ones(5, 4)) - target).square().mean().backward()
        optimizer.step()
    (recording,) = watching.session.recordings
    assert recording.title == "Generator (SGD #0)"
    assert not recording.is_foreign
    assert watching.close()["Generator (SGD #0)"].steps == [0, 1, 2]


def test_the_whole_model_is_recorded_if_the_optimizer_has_a_part(begin: Any) -> None:
    """So that the parameters which it lacks are seen."""
    watching = begin()
    model = net()
    train(model, torch.optim.SGD(model[2].parameters(), 0.1))
    ((title, trace),) = watching.close().items()
    assert title == "Sequential (SGD #0)"
    assert names(trace) == ["0", "1", "2"]


def test_a_new_model_in_every_fold(begin: Any) -> None:
    """The recordings do not keep the models of earlier folds."""
    watching = begin()
    models = []
    for _ in range(3):
        model = net()
        models.append(weakref.ref(model))
        train(model, torch.optim.SGD(model.parameters(), 0.1))
    del model
    gc.collect()
    assert [reference() for reference in models] == [None] * 3
    traces = watching.close()
    assert [*traces] == ["Sequential (SGD #0)", "Sequential (SGD #1)", "Sequential (SGD #2)"]
    assert all(trace.steps == [0, 1, 2] for trace in traces.values())
    assert (torch.autograd.backward, vars(nn.Module).get("__reduce_ex__")) == BACKWARD


def test_a_second_optimizer_of_the_same_model_ends_the_first_recording(begin: Any) -> None:
    watching = begin()
    model = net()
    train(model, torch.optim.SGD(model.parameters(), 0.1))
    train(model, torch.optim.Adam(model.parameters()), steps=2)
    traces = watching.close()
    assert {title: trace.steps for title, trace in traces.items()} == {
        "Sequential (SGD #0)": [0, 1, 2],
        "Sequential (Adam #1)": [0, 1],
    }
    assert not model._forward_hooks


def test_many_optimizers_are_not_all_recorded(begin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thruway.launch.session.MOST_RECORDINGS", 2)
    watching = begin()
    for _ in range(4):
        model = net()
        train(model, torch.optim.SGD(model.parameters(), 0.1), steps=1)
    assert len(watching.close()) == 2
    (said,) = watching.said
    assert "more than 2 optimizers" in said


def test_one_optimizer_for_each_parameter(begin: Any) -> None:
    watching = begin()
    model = nn.Sequential(net(), net(2))
    optimizers = [torch.optim.SGD([parameter], 0.1) for parameter in model.parameters()]
    for _ in range(STEPS):
        model(torch.ones(5, 4)).mean().backward()
        for optimizer in optimizers:
            optimizer.step()
    assert len(watching.close()) == 4
    assert not is_waiting()


def test_an_unused_optimizer_is_given_up(begin: Any) -> None:
    watching = begin()
    model = net()
    unused = torch.optim.SGD([nn.Parameter(torch.ones(2))], 0.1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    train(model, optimizer, steps=PATIENCE // 2)
    assert is_waiting()
    train(model, optimizer, steps=PATIENCE // 2)
    assert not is_waiting()
    assert [*watching.close()] == ["Sequential (SGD #1)"]
    assert unused.param_groups


def test_a_model_whose_own_call_is_never_seen(begin: Any) -> None:
    """Found by its parameters when the optimizer steps."""

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 2))

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(x @ self.weight)

    watching = begin()
    model = Own()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(STEPS):
        model.forward(torch.ones(5, 4)).mean().backward()
        optimizer.step()
    ((title, trace),) = watching.close().items()
    assert title == "Own (SGD #0)"
    assert trace.steps == [1, 2]
    assert names(trace, "update") == ["weight"]


def test_a_closure_calls_the_model_inside_the_step(begin: Any) -> None:
    """As in Lightning. Step 0 is complete; a frozen part is included."""
    torch.manual_seed(0)
    model = nn.Sequential(net(4, 4).requires_grad_(False), net())
    twin = copy.deepcopy(model)
    watching = begin()

    def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = model(torch.ones(5, 4)).square().mean()
            loss.backward()
            return loss

        for _ in range(STEPS):
            optimizer.step(closure)

    optimizer = torch.optim.Adam(model[1].parameters(), 0.1)
    train(model, optimizer)
    assert not is_waiting()
    (found,) = watching.close().values()
    other = torch.optim.Adam(twin[1].parameters(), 0.1)
    with watch(twin, optimizer=other) as wanted:
        train(twin, other)
    assert found.steps == wanted.steps == [0, 1, 2]
    assert [repr(site) for site in found.sites] == [repr(site) for site in wanted.sites]
    for quantity, kind in (("std", "gradient"), ("norm", "update"), ("norm", "parameter_gradient")):
        assert found.series(quantity, kind).values.tolist() == wanted.series(quantity, kind).values.tolist()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_evaluation_and_losses_are_no_roots(begin: Any) -> None:
    watching = begin()
    frozen = net().requires_grad_(False)
    criterion = nn.CrossEntropyLoss()
    criterion(frozen(torch.ones(5, 4, requires_grad=True)), torch.zeros(5, dtype=torch.long)).backward()
    with torch.no_grad():
        net()(torch.ones(5, 4))
    assert watching.close() == {}


def test_the_scaler_is_found(begin: Any) -> None:
    watching = begin()
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    slopes = []
    for _ in range(STEPS):
        output = model(torch.ones(5, 4))
        output.retain_grad()
        scaler.scale(output.square().mean()).backward()
        slopes.append(output.grad.mean().item() / scaler.get_scale())
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    (trace,) = watching.close().values()
    series = trace.series("mean", "gradient")
    assert series.values[series.names.index("2")].tolist() == pytest.approx(slopes, rel=1e-5)


def test_lazy_layers(begin: Any) -> None:
    watching = begin()
    model = nn.Sequential(nn.LazyLinear(3), nn.Tanh(), nn.LazyLinear(2))
    model(torch.ones(5, 4))
    train(model, torch.optim.SGD(model.parameters(), 0.1))
    assert watching.close()["Sequential (SGD #0)"].steps == [0, 1, 2]


def test_a_module_that_cannot_be_watched_is_said_in_a_line(begin: Any) -> None:
    watching = begin()
    model = torch.jit.script(net())
    train(model, torch.optim.SGD(model.parameters(), 0.1))
    assert not is_waiting()
    (said,) = watching.said
    assert "ScriptModule" in said
    assert watching.close() == {}


def test_an_error_of_ours_does_not_reach_the_program(begin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    watching = begin()
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monkeypatch.setattr("thruway.launch.session.open_recording", lambda *_, **__: 1 / 0)
    train(model, optimizer)
    assert watching.said == ["some training is not recorded: ZeroDivisionError: division by zero"]


def test_an_error_while_recording_does_not_reach_the_program(begin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    watching = begin()
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    train(model, optimizer, steps=1)
    attach = "thruway.watching.hooks.model_hooks.ModelHooks.attach"
    monkeypatch.setattr(attach, lambda *_: (_ for _ in ()).throw(OSError("broken")))
    train(model, optimizer, steps=3)
    assert len(watching.said) == 1
    assert "OSError: broken" in watching.said[0]
    assert watching.close()["Sequential (SGD #0)"].steps[0] == 0


def test_an_exception_of_the_root_passes(begin: Any) -> None:
    begin()
    model = net()
    waiting = torch.optim.SGD([nn.Parameter(torch.ones(2))], 0.1)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model(torch.ones(5, 7))
    assert is_waiting()
    assert waiting.param_groups


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("how", ["wrapper", "in place", "whole step"])
def test_compiled_models(begin: Any, how: str) -> None:
    """Recorded steps run eagerly, the others compiled. A step that is compiled as a whole is not recorded."""
    torch.compiler.reset()
    ran = []

    def backend(graph: torch.fx.GraphModule, _inputs: Any) -> Any:
        return lambda *arguments: (ran.append(1), graph.forward(*arguments))[1]

    watching = begin(2)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    called: Any = model
    if how == "wrapper":
        called = torch.compile(model, backend=backend)
    elif how == "in place":
        model.compile(backend=backend)
    else:
        called = torch.compile(lambda x: model(x), backend=backend)
    for _ in range(4):
        optimizer.zero_grad()
        called(torch.ones(5, 4)).square().mean().backward()
        optimizer.step()
    traces = watching.close()
    torch.compiler.reset()
    if how == "whole step":
        assert ran
    else:
        assert traces["Net (SGD #0)"].steps == [0, 2]
        assert names(traces["Net (SGD #0)"]) == ["first", "first.tanh", "last"]
        assert len(ran) == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_updates_are_not_recorded(begin: Any) -> None:
    """`watch` refuses them by an exception, which would end the program."""
    torch.compiler.reset()
    watching = begin(2)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    update = torch.compile(lambda: optimizer.step(), backend="eager")
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.ones(5, 4)).square().mean().backward()
        update()
    torch.compiler.reset()
    (trace,) = watching.close().values()
    assert trace.steps == [0]
    assert trace.failure is None


def test_generator_whose_optimizer_was_given_the_parameters_of_the_discriminator(place):
    place.write(
        "train.py",
        """
        import torch
        from torch import nn
        torch.manual_seed(0)
        g, d = nn.Sequential(nn.Linear(2, 4)), nn.Sequential(nn.Linear(4, 1))
        of_d, of_g = torch.optim.Adam(d.parameters()), torch.optim.Adam(d.parameters())
        for _ in range(3):
            d(torch.randn(8, 4)).mean().backward()
            of_d.step()
            of_d.zero_grad()
            (-d(g(torch.randn(8, 2))).mean()).backward()
            of_g.step()
            of_g.zero_grad()
        """,
    )
    place.both("train.py")
    traces = [place.traces()[name] for name in ("sequential-adam-0", "sequential-adam-1")]
    assert [trace.steps for trace in traces] == [[0, 1, 2]] * 2
    assert [trace.series("state").values[0, 0] for trace in traces] == [7, 5]  # the generator is not in its optimizer


def test_two_optimizers_of_one_model_after_one_another(place):
    place.write(
        "train.py",
        """
        import torch
        from torch import nn
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(2, 1))
        first, second = torch.optim.Adam(net.parameters()), torch.optim.SGD(net.parameters(), 0.1)
        for optimizer in [first] * 4 + [second] * 4:
            optimizer.zero_grad()
            net(torch.ones(8, 2)).square().mean().backward()
            optimizer.step()
        """,
    )
    place.both("train.py")
    steps = {name: len(trace.steps) for name, trace in place.traces().items()}
    assert steps == {"sequential-adam-0": 4, "sequential-sgd-1": 3}


def test_a_process_that_saves_no_trace_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: Any) -> None:
    watching = begin()
    model = net()
    train(model, torch.optim.SGD(model.parameters(), 0.1))
    watching.close()
    said: list[str] = []
    monkeypatch.setattr(saving, "say", said.append)
    monkeypatch.setattr(saving, "MOST_SECONDS", 0.2)
    destination = saving.Destination(tmp_path / "out", {"RANK": "0", "WORLD_SIZE": "3"})
    destination.check()
    (watched,) = destination.save(watching.session.recordings)
    assert said[0] == "sequential-sgd-0: only 1 of 3 processes saved a trace within 0.2 s"
    assert len(watched.trace.steps) == STEPS
