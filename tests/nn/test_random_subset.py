"""Exactly k of n branches in every training batch, and all of them in evaluation."""

import copy
import itertools
import math
import warnings
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from nn_cases import seeded
from torch import Tensor, nn
from torch.testing import assert_close

from thruway.errors import ConfigError
from thruway.init import initialize
from thruway.nn import Learnt, Plain, RandomSubset, Residual

EXACT = {"rtol": 1e-12, "atol": 1e-12}  # float64, sums of fewer than 100 terms of size 1


class Marked(nn.Module):
    """f(x) = amount at one place and 0 elsewhere, so that a sum shows which branches were used; counts its calls."""

    def __init__(self, place: int, amount: float = 1.0) -> None:
        super().__init__()
        self.place, self.amount, self.calls = place, amount, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y = torch.zeros_like(x)
        y[..., self.place] = self.amount
        return y


def _marked(n: int, use: int, seed: int = 0) -> RandomSubset:
    return RandomSubset(*(Residual(Marked(i)) for i in range(n)), use=use, generator=seeded(seed))


def _linear(n: int, use: int, rescale: bool = True) -> RandomSubset:
    layers = (Plain(3, 3, "linear", dtype=torch.float64, generator=seeded(i)) for i in range(n))
    return RandomSubset(*map(Residual, layers), use=use, rescale=rescale, generator=seeded(7))


def _x(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(1))


def test_every_batch_uses_exactly_k_branches_and_computes_no_other() -> None:
    stack = _marked(54, 23)
    for call in range(1, 51):
        y = stack(torch.zeros(2, 54))
        assert torch.equal(y[0], y[1])  # the whole batch shares the draw
        assert y[0].sum() == 23
        assert sum(block.branch.calls for block in stack) == 23 * call


def test_all_subsets_are_equally_likely() -> None:
    n, k, draws = 5, 2, 2000
    stack = _marked(n, k)
    seen = Counter(tuple(stack(torch.zeros(n)).nonzero().flatten().tolist()) for _ in range(draws))
    subsets = list(itertools.combinations(range(n), k))
    assert set(seen) <= set(subsets)
    chance = 1 / len(subsets)
    standard_error = math.sqrt(chance * (1 - chance) / draws)
    for subset in subsets:
        assert abs(seen[subset] / draws - chance) < 5 * standard_error


def test_the_draw_depends_on_the_generator_only() -> None:
    def drawn(seed: int) -> list[list[float]]:
        stack = _marked(6, 3, seed)
        return [stack(torch.zeros(6)).tolist() for _ in range(20)]

    outer = torch.get_rng_state()
    assert drawn(0) == drawn(0) != drawn(1)
    assert torch.equal(torch.get_rng_state(), outer)


def test_without_a_generator_the_draw_follows_the_global_seed() -> None:
    def drawn(seed: int) -> list[float]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            stack = RandomSubset(*(Residual(Marked(i)) for i in range(30)), use=15)
            return stack(torch.zeros(30)).tolist()

    assert drawn(0) == drawn(0) != drawn(1)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_drawn_if_all_or_no_branches_are_used(training: bool) -> None:
    stack = _linear(3, 3 if training else 2).train(training)
    before = stack.generator.get_state()
    stack(_x(3))
    assert torch.equal(stack.generator.get_state(), before)


def test_use_of_all_equals_a_sequence_of_the_blocks() -> None:
    stack, x = _linear(4, 4), _x(5, 3)
    for mode in (True, False):
        assert torch.equal(stack.train(mode)(x), nn.Sequential(*stack)(x))


def test_evaluation_uses_all_branches_in_full_or_rescaled() -> None:
    stack, x = _linear(5, 2).eval(), _x(4, 3)
    full = RandomSubset(*stack, use=2, rescale=False).eval()
    rescaled, y = x, x
    for block in stack:
        rescaled = rescaled + 2 / 5 * block.branch(rescaled)
        y = y + block.branch(y)
    assert_close(stack(x), rescaled, **EXACT)
    assert_close(full(x), y, **EXACT)


def test_rescaling_preserves_the_mean_of_a_single_branch() -> None:
    n, k, a = 6, 2, 0.7
    for place in range(n):
        blocks = [Residual(nn.Identity(), scale=a if i == place else 0.0) for i in range(n)]
        stack, x = RandomSubset(*blocks, use=k).eval(), _x(3)
        outputs = []
        for subset in itertools.combinations(range(n), k):
            y = x
            for i, block in enumerate(blocks):
                y = block(y, share=float(i in subset))
            outputs.append(y)
        assert_close(stack(x), torch.stack(outputs).mean(0), **EXACT)


def test_the_mean_of_a_whole_stack_has_pairs_a_little_less_often() -> None:
    # Equal commuting branches: every subset gives (1 + a)^k, and evaluation (1 + a k/n)^n, which has more pairs.
    n, k, a = 4, 2, 0.5
    stack = RandomSubset(*(Residual(nn.Identity(), scale=a) for _ in range(n)), use=k, generator=seeded())
    x = torch.ones((), dtype=torch.float64)
    assert_close(stack(x).item(), (1 + a) ** k, **EXACT)
    evaluated = stack.eval()(x).item()
    assert_close(evaluated, (1 + a * k / n) ** n, **EXACT)
    assert evaluated > (1 + a) ** k


def test_use_of_0_leaves_the_shortcuts() -> None:
    stack, x = _linear(3, 0), _x(2, 3)
    assert torch.equal(stack(x), x)
    assert torch.equal(stack.eval()(x), x)
    assert torch.equal(RandomSubset(use=0)(x), x)


def test_only_drawn_branches_get_gradients() -> None:
    stack = _linear(6, 2)
    stack(_x(4, 3)).square().sum().backward()
    assert sum(block.branch.weight.grad is not None for block in stack) == 2


def test_a_repeated_block_counts_twice() -> None:
    block = Residual(nn.Identity())
    stack = RandomSubset(block, block, use=2)
    assert len(stack) == 2
    assert stack(torch.ones(1)).item() == 4.0


def test_weights_fit_a_plain_sequence() -> None:
    stack, x = _linear(4, 2, rescale=False).eval(), _x(2, 3)
    plain = nn.Sequential(*_linear(4, 4))
    for parameter in plain.parameters():
        parameter.data.zero_()
    plain.load_state_dict(stack.state_dict())
    assert torch.equal(plain(x), stack(x))


def test_a_copy_draws_the_same_numbers_and_is_independent() -> None:
    stack, x = _linear(8, 4), _x(2, 3)
    twin = copy.deepcopy(stack)
    expected = [stack(x) for _ in range(5)]
    assert all(torch.equal(twin(x), y) for y in expected)
    twin[0].branch.weight.data.add_(1.0)
    assert not torch.equal(twin[0].branch.weight, stack[0].branch.weight)


def test_initialize_covers_every_parameter() -> None:
    blocks = (Residual(Plain(3, 3, "tanh"), scale=Learnt(0.0)) for _ in range(3))
    assert initialize(RandomSubset(*blocks, use=1), "he_normal", generator=seeded()).skipped == ()


def test_vmap_draws_one_subset_for_all() -> None:
    outcomes = torch.vmap(_marked(9, 4), randomness="same")(torch.zeros(3, 9))
    assert outcomes[0].sum() == 4
    assert torch.equal(outcomes, outcomes[:1].expand(3, 9))


def test_compile_sees_one_graph_in_evaluation() -> None:
    stack, x = _linear(4, 2).eval(), _x(3, 3)
    torch.compiler.reset()
    with warnings.catch_warnings():
        # Ignore the compiler's own warnings.
        warnings.simplefilter("ignore")
        compiled = torch.compile(stack, backend="eager", fullgraph=True)
        assert_close(compiled(x), stack(x), **EXACT)
    torch.compiler.reset()


@pytest.mark.parametrize("seed", [1, 3])  # one takes the first block and one leaves it out
def test_compile_covers_every_branch_that_is_drawn(seed: int) -> None:
    # torch's own layers: the compiler does not compile these on their own, only within the block.
    branches = (nn.Sequential(nn.Linear(3, 3, dtype=torch.float64), nn.Tanh()) for _ in range(9))
    stack, x = RandomSubset(*map(Residual, branches), use=4, generator=seeded(seed)), _x(3, 3)
    eager, ran = copy.deepcopy(stack), [0]

    def counting(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        linear = sum(node.target is nn.functional.linear for node in graph.graph.nodes)

        def run(*arguments: object) -> object:
            ran[0] += linear
            return graph.forward(*arguments)

        return run

    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(stack, backend=counting)
        for batch in range(1, 13):  # more than the compiler allows versions of one function
            assert_close(compiled(x), eager(x), **EXACT)
            assert ran[0] == 4 * batch
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: _linear(3, 4), "use must be 0 to 3, the number of blocks, got 4"),
        (lambda: _linear(3, -1), "use must be an integer of at least 0, got -1"),
        (lambda: _linear(3, 1.5), "got 1.5"),
        (lambda: RandomSubset(Plain(2), use=1), r"Residual blocks, got Plain as block 0.*Residual\(branch"),
        (
            lambda: RandomSubset(Residual(nn.Identity()), Residual(nn.Identity(), drop=0.5), use=1),
            "block 1 has its own stochastic depth.*drop=0.5",
        ),
    ],
)
def test_invalid_arguments_raise_with_their_value(build: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build()
