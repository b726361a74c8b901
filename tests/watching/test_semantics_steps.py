"""Definition of a step: accumulated micro-batches, closures, evaluation, scaled losses, recomputed blocks."""

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from thruway.watching import Quantity, Trace, watch
from thruway.watching.sites import KINDS

WIDTH, BATCH = 4, 12
# All that is of a whole batch, not only of its parts; percentiles and ranks are not.
WHOLE = ["mean", "std", "abs_max", "zeros", "saturation_low", "saturation_high", "nan", "inf", "norm"]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        return self.head(x + torch.tanh(self.second(x)))


def net() -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return Net().double()


def batch(step: int = 0, size: int = BATCH) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(size, WIDTH, dtype=torch.float64, generator=generator) * (1 + torch.arange(size)[:, None])


def assert_alike(one: Trace, other: Trace, *, rtol: float, kinds: tuple[Any, ...] = KINDS) -> None:
    """Same sites, same steps, same numbers."""
    for kind in kinds:
        assert one.quantities(kind) == other.quantities(kind)
        assert one.quantities(kind) != []
        for quantity in one.quantities(kind):
            ours, theirs = one.series(quantity, kind), other.series(quantity, kind)
            assert ours.names == theirs.names
            assert ours.steps.tolist() == theirs.steps.tolist()
            np.testing.assert_allclose(ours.values, theirs.values, rtol, 1e-14, err_msg=f"{quantity} of {kind}")


def train(splits: list[int], *, steps: int = 3) -> Trace:
    """Each step's batch in parts of these sizes."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with watch(model, optimizer=optimizer, quantities=WHOLE) as trace:
        for step in range(steps):
            optimizer.zero_grad()
            for part in batch(step).split(splits):
                (model(part).square().sum() / BATCH).backward()
            optimizer.step()
    return trace


@pytest.mark.parametrize("splits", [[6, 6], [4, 4, 4], [1] * 12, [7, 3, 2]])
def test_micro_batches_add_up_to_the_batch(splits: list[int]) -> None:
    whole, parts = train([BATCH]), train(splits)
    assert len(whole.steps) == 3
    assert_alike(parts, whole, rtol=1e-9)  # float64; squares of means are taken apart and put together again


def test_parts_of_a_model_may_be_called_by_the_loop() -> None:
    """No root call, and a part that is called twice: with the optimizer, a step is a step all the same."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    whole = train([BATCH])
    with watch(model, optimizer=optimizer, quantities=["mean"]) as trace:
        for step in range(3):
            optimizer.zero_grad()
            x = F.relu(model.first(batch(step)))
            (model.head(x + torch.tanh(model.second(x))).square().sum() / BATCH).backward()
            optimizer.step()
    for kind in ("output", "gradient"):
        ours, theirs = trace.series("mean", kind), whole.series("mean", kind)
        assert ours.names == ["first", "second", "head"]
        for name, values in zip(ours.names, ours.values, strict=True):
            np.testing.assert_allclose(values, theirs.values[theirs.names.index(name)], 1e-12)


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 0.01),
    "lbfgs": lambda parameters: torch.optim.LBFGS(parameters, 0.01, max_iter=1),
}


@pytest.mark.parametrize("as_keyword", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradients_that_come_up_inside_the_step_are_this_steps(name: str, as_keyword: bool) -> None:
    """With a closure, .grad at the call of step() holds the gradients of the previous step."""
    model, twin = net(), net()
    optimizer, plain = OPTIMIZERS[name](model.parameters()), torch.optim.SGD(twin.parameters(), 0.01)
    expected: dict[str, list[float]] = {n: [] for n, _ in twin.named_parameters()}
    with watch(model, optimizer=optimizer, quantities=["norm"]) as trace:
        for step in range(3):
            for p, q in zip(model.parameters(), twin.parameters(), strict=True):
                q.data.copy_(p.data)
            plain.zero_grad()
            twin(batch(step)).square().mean().backward()
            for n, p in twin.named_parameters():
                assert p.grad is not None
                expected[n].append(p.grad.norm().item())

            def closure(step: int = step) -> Tensor:
                optimizer.zero_grad()
                loss = model(batch(step)).square().mean()
                loss.backward()
                return loss

            loss = optimizer.step(closure=closure) if as_keyword else optimizer.step(closure)
            assert isinstance(loss, Tensor)
    norms = trace.series("norm", "parameter_gradient")
    for n, values in zip(norms.names, norms.values, strict=True):
        np.testing.assert_allclose(values, expected[n], 1e-12)
    assert sorted(norms.names) == sorted(expected)


@pytest.mark.parametrize("gives_optimizer", [False, True])
def test_evaluation_between_steps_is_not_recorded(gives_optimizer: bool) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    with watch(model, optimizer=optimizer if gives_optimizer else None, quantities=["mean"]) as trace:
        for step in range(4):
            with torch.no_grad():
                model(batch(99))
            with torch.inference_mode():
                model(batch(98))
            model(batch(step)).sum().backward()
            with torch.no_grad():
                model(batch(97))
            optimizer.step()
    assert trace.steps == [0, 1, 2, 3]
    first = trace.series("mean").values[0]
    wanted = [model.first(batch(step)).mean().item() for step in range(4)]
    np.testing.assert_allclose(first, wanted, 1e-12)


class Checkpointed(Net):
    def __init__(self, use_reentrant: bool | None) -> None:
        super().__init__()
        self.use_reentrant = use_reentrant

    def block(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.second(x))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        if self.use_reentrant is None:
            return self.head(self.block(x))
        return self.head(checkpoint(self.block, x, use_reentrant=self.use_reentrant))


@pytest.mark.parametrize("gives_optimizer", [False, True])
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_checkpointed_block_is_recorded_once(use_reentrant: bool, gives_optimizer: bool) -> None:
    traces = []
    for way in (None, use_reentrant):
        model = Checkpointed(way).double()
        model.load_state_dict(net().state_dict())
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            with watch(model, optimizer=optimizer if gives_optimizer else None) as trace:
                for step in range(5):
                    optimizer.zero_grad()
                    model(batch(step)).square().mean().backward()
                    optimizer.step()
        traces.append(trace)
        messages = [str(warning.message) for warning in found]
        assert len(messages) == bool(way)
        assert all(text.startswith("a reentrant checkpoint (in the model's own code)") for text in messages)
    plain, trace = traces
    assert trace.failure is None
    assert trace.steps == plain.steps == [0, 1, 2, 3, 4]
    for kind in ("output", "gradient"):
        ours, theirs = trace.series("std", kind), plain.series("std", kind)
        # Reentrant checkpointing runs the block without gradients, so there are none inside it.
        expected = {"first", "first.relu", "head"} | ({"second", "second.tanh", "add"} if not use_reentrant else set())
        assert expected <= set(ours.names)
        for name, values in zip(ours.names, ours.values, strict=True):
            if name in theirs.names:
                np.testing.assert_allclose(values, theirs.values[theirs.names.index(name)], 1e-12, err_msg=name)


def test_layers_without_gradients_that_are_no_checkpoint_are_no_reason_for_a_warning() -> None:
    class Frozen(Net):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = F.relu(self.first(x))
            return self.head(x)

    model = Frozen().double()
    with watch(model) as trace:  # warnings are errors
        model(batch(0)).sum().backward()
    assert trace.series("mean").names == ["first", "head"]


def test_every_module_that_the_loop_calls_has_its_residual_branches() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return (x + torch.tanh(self.inner(x))).cos()

    model = nn.ModuleDict({"encoder": Residual(), "decoder": Residual()}).double()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with watch(model, optimizer=optimizer) as trace:
        model["decoder"](model["encoder"](torch.ones(3, 4).double())).sum().backward()
        optimizer.step()
    assert set(trace.branches) == {"encoder.add", "decoder.add"}


# --- a forward pass that raises


class Picky(Net):
    """Raises halfway for a batch of 3, as a model that runs out of memory."""

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.first(x))
        if len(x) == 3:
            raise MemoryError("a batch of 3")
        return self.head(h + torch.tanh(self.second(h)))


def picky(refused_before: tuple[int, ...], **options: Any) -> tuple[Trace, list[int]]:
    """Six batches that come through, with refused ones before some of them; the steps that the reader saw meanwhile."""
    model = Picky().double()
    model.load_state_dict(net().state_dict())
    read: list[int] = []
    with watch(model, quantities=["mean", "std"], **options) as trace:
        for step in range(6):
            for _ in range(refused_before.count(step)):
                with pytest.raises(MemoryError):
                    model(batch(50 + step, 3))
                read += trace.steps[-1:]
            model(batch(step)).square().mean().backward()
    return trace, read


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("refused_before", [(0,), (0, 0, 3), (2, 3, 3, 5)], ids=str)
def test_a_call_that_raises_is_no_step(refused_before: tuple[int, ...], every: int) -> None:
    probe = batch(7)
    (trace, read), (whole, _) = picky(refused_before, every=every, probe=probe), picky((), every=every, probe=probe)
    assert trace.failure is None
    assert trace.steps == whole.steps == list(range(0, 6, every))
    assert_alike(trace, whole, rtol=0, kinds=("output", "gradient"))
    assert trace.probe is not None
    assert whole.probe is not None
    assert trace.probe.steps == whole.probe.steps
    assert max(read, default=0) < 6  # reading in between returns complete steps only
    assert_alike(trace.probe, whole.probe, rtol=0, kinds=("output",))


def test_strides_do_not_count_it() -> None:
    seldom = Quantity("seldom", "", lambda rows: rows.mean, ("output",), stride=2)
    model = Picky().double()
    with watch(model, quantities=["mean", seldom]) as trace:
        for step, size in enumerate([3, 12, 12, 3, 12, 12]):
            with contextlib.suppress(MemoryError):
                model(batch(step, size)).sum().backward()
    assert trace.steps == [0, 1, 2, 3]
    assert trace.series("seldom").steps.tolist() == [0, 2]


def test_what_the_last_call_saw_before_it_raised_is_kept() -> None:
    """A model that stops itself at a NaN is to show where it came from."""
    model = Picky().double()
    with contextlib.suppress(MemoryError), watch(model) as trace:
        model(batch(0)).sum().backward()
        model(torch.full((3, WIDTH), torch.nan, dtype=torch.float64))
    assert trace.steps == [0, 1]
    assert trace.first_bad is not None
    assert (trace.first_bad.step, trace.first_bad.site.key) == (1, ("input", "input"))


def test_a_failing_evaluation_changes_nothing() -> None:
    model = Picky().double()
    with watch(model, quantities=["mean"]) as trace:
        for step in range(3):
            model(batch(step)).sum().backward()
            with torch.no_grad(), pytest.raises(MemoryError):
                model(batch(9, 3))
            with pytest.raises(MemoryError):
                model(batch(9, 3))
            with torch.no_grad():
                model(batch(9))
    # The last refused call is kept, as the block ended before another one.
    assert trace.steps == [0, 1, 2, 3]
