"""Common properties of all blocks in the table."""

import copy
import io
import warnings
from collections.abc import Iterator

import pytest
import torch
from nn_cases import CASES, HIGHWAYS, STACKS, Case, named, seeded
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.testing import assert_close

from thruway.init import initialize

EXACT = {"rtol": 1e-12, "atol": 1e-12}  # float64, sums of fewer than 100 terms of size 1

WITH_PARAMETERS = tuple(case for case in CASES if list(case.block().parameters()))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread: with several, tensors this small take up to 100 times longer on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _as_function(case: Case) -> tuple[nn.Module, list[Tensor]]:
    """Return the block and the tensors to differentiate: its input and its parameters."""
    block = case.block()
    x = case.batch(2).requires_grad_()
    return block, [x, *(parameter.detach().clone().requires_grad_() for parameter in block.parameters())]


@pytest.mark.parametrize("case", **named(CASES))
def test_first_and_second_derivatives_match_finite_differences(case: Case) -> None:
    block, tensors = _as_function(case)
    names = [name for name, _ in block.named_parameters()]

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        return functional_call(block, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, tensors)
    # Along one random direction: the full Hessian would take a minute, and a wrong formula fails in any
    # direction.
    assert torch.autograd.gradgradcheck(run, tensors, fast_mode=True)


@pytest.mark.parametrize("case", **named(CASES))
def test_samples_are_independent_and_vmap_works(case: Case) -> None:
    block, x = case.block(), case.batch()
    one_by_one = torch.stack([block(sample) for sample in x])
    assert_close(block(x), one_by_one, **EXACT)
    assert_close(vmap(block)(x), one_by_one, **EXACT)


@pytest.mark.parametrize("case", **named(WITH_PARAMETERS))
def test_a_population_under_vmap_equals_its_members(case: Case) -> None:
    members = [case.block(seed) for seed in (0, 1)]
    x = case.batch()
    state = stack_module_state(members)
    together = vmap(lambda parameters, buffers: functional_call(members[0], (parameters, buffers), (x,)))
    assert_close(together(*state), torch.stack([member(x) for member in members]), **EXACT)


@pytest.mark.parametrize("case", **named(WITH_PARAMETERS))
def test_every_parameter_gets_a_gradient(case: Case) -> None:
    block = case.block()
    (block(case.batch()) ** 2).sum().backward()
    assert [name for name, p in block.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("case", **named(CASES))
def test_non_contiguous_input_gives_the_same(case: Case) -> None:
    block, x = case.block(), case.batch()
    reverse = tuple(reversed(range(x.ndim)))
    strided = x.permute(reverse).contiguous().permute(reverse)
    assert not strided.is_contiguous()
    assert_close(block(strided), block(x), **EXACT)


@pytest.mark.parametrize("case", **named(CASES))
def test_an_empty_batch_gives_zero_gradients(case: Case) -> None:
    block = case.block()
    y = block(case.batch(0))
    assert y.shape == block(case.batch(2))[:0].shape
    parameters = list(block.parameters())
    for gradient in torch.autograd.grad(y.sum(), parameters) if parameters else ():
        assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("case", **named(CASES))
def test_the_state_dict_is_complete(case: Case) -> None:
    one, other, x = case.block(0), case.block(5), case.batch()
    if list(one.parameters()):
        assert not torch.equal(one(x), other(x))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x), other(x))


@pytest.mark.parametrize("case", **named(CASES))
def test_copies_agree_and_are_independent(case: Case) -> None:
    block, x = case.block(), case.batch()
    file = io.BytesIO()
    torch.save(block, file)
    file.seek(0)
    # weights_only=False: the bytes were written by this test, which tests pickling.
    for twin in (copy.deepcopy(block), torch.load(file, weights_only=False)):
        before = block(x)
        assert torch.equal(twin(x), before)
        for parameter in twin.parameters():
            parameter.data.add_(1.0)
        assert torch.equal(block(x), before)


@pytest.mark.parametrize("case", **named(CASES))
def test_the_weights_depend_on_the_generator_only(case: Case) -> None:
    outer = torch.get_rng_state()
    one, same, other = case.block(3), case.block(3), case.block(4)
    assert torch.equal(torch.get_rng_state(), outer)
    for (name, a), b, c in zip(one.named_parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        if name.endswith("weight"):
            assert not torch.equal(a, c)


@pytest.mark.parametrize("case", **named(CASES))
def test_without_a_generator_weights_follow_the_global_seed(case: Case) -> None:
    def built(seed: int) -> list[Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return [p.detach() for name, p in case.build(None, -1.0).named_parameters() if name.endswith("weight")]

    for a, b, c in zip(built(0), built(0), built(1), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


@pytest.mark.parametrize("case", **named(CASES))
def test_autocast_stays_near_float32(case: Case) -> None:
    block, x = case.block().float(), case.batch().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = block(x)
    # bfloat16 keeps 8 bits: 2^-8 on each of a handful of steps, on values of a few units.
    assert_close(y.float(), block(x), rtol=0.04, atol=0.04)


@pytest.mark.parametrize("case", **named((*HIGHWAYS, *STACKS)))
def test_autocast_does_not_round_the_carried_input(case: Case) -> None:
    block, x = case.block(gate_bias=-torch.inf).float(), case.batch().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = block(x)
    assert y.dtype == torch.float32
    assert torch.equal(y, x)


@pytest.mark.parametrize("case", **named(CASES))
def test_initialize_covers_every_parameter_and_keeps_the_gate_bias(case: Case) -> None:
    block = case.block(gate_bias=-3.0)
    biases = {name: p.detach().clone() for name, p in block.named_parameters() if not name.endswith("weight")}
    weights = {name: p.detach().clone() for name, p in block.named_parameters() if name.endswith("weight")}
    for parameter in block.parameters():
        parameter.data.fill_(torch.nan)
    assert initialize(block, "glorot_uniform", generator=seeded(9)).skipped == ()
    for name, parameter in block.named_parameters():
        if name in biases:
            assert torch.equal(parameter, biases[name])
        else:
            assert parameter.isfinite().all()
            assert not torch.equal(parameter, weights[name])


@pytest.mark.parametrize("case", **named(CASES))
def test_blocks_can_be_built_on_the_meta_device_and_printed(case: Case) -> None:
    with torch.device("meta"):
        block = case.build(None, -1.0)
    assert all(p.is_meta for p in block.parameters())
    assert type(block).__name__ in repr(block)


@pytest.mark.parametrize("name", ["linear_independent", "conv2d_grouped_independent", "residual"])
def test_compile_sees_one_graph(name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    block, x = case.block(), case.batch()
    torch.compiler.reset()
    with warnings.catch_warnings():
        # Ignore the compiler's own warnings.
        warnings.simplefilter("ignore")
        compiled = torch.compile(block, backend="eager", fullgraph=True)
        assert_close(compiled(x), block(x), **EXACT)
