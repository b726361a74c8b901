"""Models whose passes differ: every recorded number is the right one."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.watching import watch

STEPS = 24


class Maybe(nn.Module):
    """Returns the output of tanh, or twice that: its output is not always the result of the same function."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(3, 3)

    def forward(self, x: Tensor, is_doubled: bool) -> Tensor:
        y = torch.tanh(self.map(x))
        return y * 2 if is_doubled else y


class Doubling(nn.Module):
    def __init__(self, doubles: Callable[[int, int], bool]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Maybe() for _ in range(3))
        self.doubles = doubles

    def forward(self, x: Tensor, step: int) -> Tensor:
        for index, layer in enumerate(self.layers):
            x = layer(x, self.doubles(step, index))
        return x.exp()


class StochasticDepth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(4))

    def forward(self, x: Tensor, step: int) -> Tensor:
        for index, layer in enumerate(self.layers):
            if (step * 7 + index * 3) % 5:
                x = x + F.relu(layer(x))
        return x.exp()


class Rolled(nn.Module):
    """One layer, called a different number of times in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act = nn.Linear(3, 3), nn.Tanh()

    def forward(self, x: Tensor, step: int) -> Tensor:
        for _ in range(1 + step * 7 % 4):
            x = self.act(self.layer(x))
        return x.exp()


class Late(nn.Module):
    """From step 10 on a second head, of modules that no earlier pass has called."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.act = nn.Linear(3, 3), nn.Linear(3, 3), nn.ReLU()

    def forward(self, x: Tensor, step: int) -> Tensor:
        x = torch.tanh(self.body(x))
        return (x + self.act(self.head(x))).exp() if step >= 10 else x.exp()


NETS: dict[str, Callable[[], nn.Module]] = {
    "now and then": lambda: Doubling(lambda step, index: (step + index) % 3 == 0),
    "late": lambda: Doubling(lambda step, index: step >= 5 and step % 2 == 0 and index == 1),
    "later": lambda: Doubling(lambda step, index: step == 13 and index < 2),
    "stochastic depth": StochasticDepth,
    "rolled": Rolled,
    "a late head": Late,
}
# Numbers given up in the step in which a net surprises for the first time.
MISSING = {"late": 1, "later": 2, "stochastic depth": 4, "a late head": 2}


@pytest.mark.parametrize("name", NETS)
def test_a_module_that_changes_its_ways_has_right_numbers_or_none(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = NETS[name]().double()
    from_hooks: list[dict[str, float]] = []

    def hook_of(path: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            calls = sum(known.partition("#")[0] == path for known in from_hooks[-1])
            from_hooks[-1][path if calls == 0 else f"{path}#{calls + 1}"] = output.mean().item()

        return hook

    for path, module in net.named_modules():
        if path:
            module.register_forward_hook(hook_of(path))
    with watch(net, quantities=["mean"]) as trace:
        for step in range(STEPS):
            from_hooks.append({})
            net(torch.full((2, 3), 0.3, dtype=torch.float64), step).sum().backward()
    means = trace.series("mean")
    numbers = dict(zip(means.names, means.values, strict=True))
    missing = 0
    for step, truth in enumerate(from_hooks):
        for path, value in truth.items():
            known = numbers.get(path, np.full(STEPS, np.nan))[step]
            missing += bool(np.isnan(known))
            # float64 means of six numbers, in two orders of summation
            assert np.isnan(known) or known == pytest.approx(value, rel=1e-12), (step, path)
        called = set(truth)
        modules = [n for n in numbers if n.partition("#")[0] in dict(net.named_modules())]
        strangers = [n for n in modules if n not in called and not np.isnan(numbers[n][step])]
        assert strangers == [], f"step {step} has numbers of modules that did not run"
    assert missing <= MISSING.get(name, 0)
