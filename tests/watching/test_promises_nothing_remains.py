"""After the with block no hook, mode or tensor of the watcher is left, however the block ends."""

import contextlib
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import _get_current_function_mode_stack

from thruway.nn import HighwayStack
from thruway.watching import WatchWarning, watch


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.stack, self.last = nn.Linear(4, 4), nn.Linear(4, 4), HighwayStack(4, 2), Last()
        self.loss: Tensor | None = None
        self.breaks: type[BaseException] | None = None

    def forward(self, x: Tensor) -> Tensor:
        skip = self.stack(F.relu(self.first(x)))
        return self.last(skip + torch.tanh(self.second(skip)), self.breaks)


class Last(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 2)

    def forward(self, x: Tensor, breaks: type[BaseException] | None) -> Tensor:
        x = self.inner(x)
        if breaks is not None:
            raise breaks("in the middle of the forward pass")
        return x


def hooks_of(model: nn.Module) -> list[tuple[str, str]]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    kinds += ("_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs", "_forward_hooks_always_called")
    return [(name, kind) for name, module in model.named_modules() for kind in kinds if getattr(module, kind)]


def hooks_of_optimizer(optimizer: torch.optim.Optimizer) -> int:
    return len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)


def tensors_alive() -> dict[int, Tensor]:
    gc.collect()
    return {id(o): o for o in gc.get_objects() if issubclass(type(o), Tensor)}


X = torch.ones(3, 4)


def ends_normally(net: Net, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(4):
        net(X).sum().backward()
        optimizer.step()


def body_raises(net: Net, optimizer: torch.optim.Optimizer) -> None:
    ends_normally(net, optimizer)
    raise ZeroDivisionError


def forward_raises(net: Net, optimizer: torch.optim.Optimizer) -> None:
    ends_normally(net, optimizer)
    net.breaks = ZeroDivisionError
    net(X)


def first_forward_raises(net: Net, optimizer: torch.optim.Optimizer) -> None:
    net.breaks = ZeroDivisionError
    net(X)


def interrupted_in_forward(net: Net, optimizer: torch.optim.Optimizer) -> None:
    ends_normally(net, optimizer)
    net.breaks = KeyboardInterrupt
    net(X)


def interrupted_in_first_forward(net: Net, optimizer: torch.optim.Optimizer) -> None:
    net.breaks = KeyboardInterrupt
    net(X)


def left_between_forward_and_backward(net: Net, optimizer: torch.optim.Optimizer) -> None:
    ends_normally(net, optimizer)
    net.loss = net(X).sum()


def backward_raises(net: Net, optimizer: torch.optim.Optimizer) -> None:
    ends_normally(net, optimizer)
    y = net(X)

    def hook(_gradient: Tensor) -> None:
        raise ZeroDivisionError

    y.register_hook(hook)
    y.sum().backward()


ENDINGS: dict[str, Callable[[Net, torch.optim.Optimizer], None]] = {
    f.__name__: f
    for f in (
        ends_normally,
        body_raises,
        forward_raises,
        first_forward_raises,
        interrupted_in_forward,
        interrupted_in_first_forward,
        left_between_forward_and_backward,
        backward_raises,
    )
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "probe": {"probe": torch.ones(2, 4)},
    "every other": {"every": 2},
    "arrays": {"quantities": ["mean", "histogram"]},
}


@pytest.fixture(scope="module")
def young_heap() -> Iterator[None]:
    """Objects that exist already are skipped: torch and pytest have about a million."""
    net = Net()
    ends_normally(net, torch.optim.SGD(net.parameters(), 0.01))  # loads the modules that torch imports lazily
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


CASES = [(ending, by, "plain") for ending in ENDINGS for by in (False, True)]
CASES += [("ends_normally", False, "probe"), ("body_raises", True, "probe"), ("forward_raises", True, "probe")]
CASES += [
    ("ends_normally", True, "arrays"),
    ("ends_normally", True, "every other"),
    ("interrupted_in_forward", False, "every other"),
]


@pytest.mark.usefixtures("young_heap")
@pytest.mark.parametrize(("ending", "gives_optimizer", "options"), CASES)
def test_nothing_remains(ending: str, gives_optimizer: bool, options: str) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
    ends_normally(net, optimizer)  # gradients and momentum exist
    before = set(tensors_alive())
    watcher = watch(net, optimizer=optimizer if gives_optimizer else None, **OPTIONS[options])
    with contextlib.suppress(ZeroDivisionError, KeyboardInterrupt), watcher as trace:
        ENDINGS[ending](net, optimizer)
    assert hooks_of(net) == []
    assert hooks_of_optimizer(optimizer) == 0
    assert _get_current_function_mode_stack() == []
    assert trace.failure is None
    expected = [s for s in trace.steps if s % 2 == 0 or options != "every other"]
    assert trace.steps == expected
    if net.loss is not None:  # a hook on it now would stay for good
        net.loss.backward()
        net.loss = None
    assert [tuple(t.shape) for key, t in tensors_alive().items() if key not in before] == []
    assert watcher is not None  # all this with the watcher and its trace still in hand


def test_the_backward_pass_after_the_block_is_left_alone() -> None:
    net, twin = Net(), Net()
    twin.load_state_dict(net.state_dict())
    with watch(net) as trace:
        loss = net(X).sum()
    numbers = trace.series("mean").values.copy()
    loss.backward()
    twin(X).sum().backward()
    for (name, p), q in zip(net.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad), name  # type: ignore[arg-type]
    assert (trace.series("mean").values == numbers).all()
    assert "gradient" not in {site.kind for site in trace.sites}


def test_the_model_is_free_to_go_while_the_trace_is_kept() -> None:
    net = Net()
    with watch(net, probe=X) as trace:
        for _ in range(3):
            net(X).sum().backward()
    gone = weakref.ref(net), weakref.ref(net.first.weight)
    del net
    gc.collect()
    assert (gone[0](), gone[1]()) == (None, None)
    assert trace.steps == [0, 1, 2]


@pytest.mark.parametrize("gives_optimizer", [False, True], ids=["by calls", "by optimizer"])
def test_hooks_on_modules_exist_on_sampled_steps_only(gives_optimizer: bool) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    seen: dict[int, list[tuple[str, str]]] = {}
    modes: dict[int, int] = {}

    def loss_of(y: Tensor, step: int) -> Tensor:
        seen[step], modes[step] = hooks_of(net), len(_get_current_function_mode_stack())
        return y.sum()

    with watch(net, every=3, optimizer=optimizer if gives_optimizer else None):
        for step in range(8):
            loss_of(net(X), step).backward()
            optimizer.step()
    counting = [("", name) for name in ("_forward_hooks", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs")]
    counting = [] if gives_optimizer else counting
    for step in range(8):
        assert modes[step] == 0
        if step % 3:
            assert seen[step] == counting
        else:
            assert len(seen[step]) > len(counting)


def test_nothing_recorded_is_a_warning() -> None:
    with (
        pytest.warns(
            WatchWarning, match=r"nothing was recorded: no training step of Net was completed: it was not called"
        ),
        watch(Net()),
    ):
        pass
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    with pytest.warns(WatchWarning, match=r"optimizer\.step\(\) was not called"), watch(net, optimizer=optimizer):
        net(X).sum().backward()


def test_a_watch_is_used_once() -> None:
    watcher = watch(net := Net())
    with watcher:
        net(X)
    with pytest.raises(Exception, match="call watch"), watcher:
        pass
