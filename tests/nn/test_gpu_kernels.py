"""The GPU kernels, run by Triton's interpreter on the CPU against the loops of stack_kernel.py and against autograd."""

import contextlib
import importlib
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import jacrev, vmap
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import thruway.nn
from thruway.errors import ShapeError
from thruway.nn import HighwayConv1d, HighwayConv2d, HighwayStack, conv_autograd, gpu, stack_kernel
from thruway.nn.gpu import gpu_kernels
from thruway.nn.stack_kernel import FUSED_ACTIVATIONS

pytest.importorskip("triton", reason="Triton has no build for this platform")

# Both branches of a `where` are computed, and the unused one may overflow.
pytestmark = [
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning"),
]

SINGLE = {"rtol": 2e-5, "atol": 2e-6}  # float32: sums of up to 100 terms in another order
HALF = {"rtol": 4e-3, "atol": 4e-3}  # float16 keeps 11 bits: four layers' roundings of 5e-4


@pytest.fixture(scope="module")
def launches():
    """The launches with kernels in Triton's interpreter, which must be enabled before the import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        names = "triton_kernels", "triton_launch"
        for name in names:  # another test may have imported the compiled kernels
            patch.delitem(sys.modules, f"thruway.nn.{name}", raising=False)
            patch.delattr(thruway.nn, name, raising=False)
        return [importlib.import_module(f"thruway.nn.{name}") for name in names][-1]


@pytest.fixture
def as_if_on_a_gpu(launches, monkeypatch):
    for room in (stack_kernel, conv_autograd):
        monkeypatch.setattr(room, "gpu_kernels", lambda x: launches)
    monkeypatch.setattr(Tensor, "is_cuda", True)


def draw(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def forward_and_back(forward_layers, backward_layers, act, shape, dtype=torch.float32, keeps_G=False):
    members, depth, width, batch = shape
    # The memory layout of a stack: members before layers.
    weight = (draw(members, depth, 2 * width, width) / width**0.5).to(dtype).transpose(0, 1)
    bias = draw(members, depth, 2 * width, seed=2).to(dtype).transpose(0, 1)
    X, A = (torch.full((depth, members, rows, batch), torch.nan, dtype=dtype) for rows in (width, 2 * width))
    X[0] = draw(members, width, batch, seed=3)
    y, gw, gb = torch.empty_like(X[0]), torch.empty_like(weight).contiguous(), torch.empty_like(bias).contiguous()
    forward_layers(weight, bias, act, X, A, y)
    g, G = draw(members, width, batch, seed=4).to(dtype), torch.full_like(X, torch.nan) if keeps_G else None
    backward_layers(g, weight, act, X, A, gw, gb, G)
    return {"X": X, "A": A, "y": y, "dL/dx": g, "dL/dW": gw, "dL/db": gb} | ({} if G is None else {"G": G})


# members, depth, width, batch: less than a tile, several tiles and a rest, one layer of one unit, above NARROW
SHAPES = [(1, 3, 5, 7), (2, 4, 20, 33), (1, 1, 1, 1), (3, 2, 64, 16), (2, 3, 70, 5)]


@pytest.mark.parametrize("keeps_G", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("act", FUSED_ACTIVATIONS)
def test_the_stack_kernels_equal_the_loops_of_torch_operations(launches, act, shape, keeps_G):
    ours = forward_and_back(launches.forward_layers, launches.backward_layers, act, shape, keeps_G=keeps_G)
    wanted = forward_and_back(stack_kernel.forward_layers, stack_kernel.backward_layers, act, shape, keeps_G=keeps_G)
    for name, value in wanted.items():
        torch.testing.assert_close(ours[name], value, **SINGLE, msg=lambda text, name=name: f"{name}: {text}")


def test_a_weight_with_transposed_memory(launches):
    def turned(run):
        return lambda weight, *rest: run(weight.mT.contiguous().mT, *rest)

    def unturned(run):
        return lambda g, weight, *rest: run(g, weight.mT.contiguous().mT, *rest)

    shape = (2, 4, 20, 33)
    ours = forward_and_back(turned(launches.forward_layers), unturned(launches.backward_layers), "tanh", shape)
    wanted = forward_and_back(launches.forward_layers, launches.backward_layers, "tanh", shape)
    for name, value in wanted.items():
        assert torch.equal(ours[name], value), name


@pytest.mark.parametrize("shape", [(2, 4, 20, 33), (2, 3, 70, 5)])
def test_half_precision_is_rounded_where_it_is_stored(launches, shape):
    # float16, because the interpreter multiplies bfloat16 numbers as integers.
    ours = forward_and_back(launches.forward_layers, launches.backward_layers, "tanh", shape, torch.float16)
    wanted = forward_and_back(stack_kernel.forward_layers, stack_kernel.backward_layers, "tanh", shape)
    for name, value in wanted.items():
        assert ours[name].dtype == torch.float16
        scale = value.abs().max()
        torch.testing.assert_close(ours[name].float() / scale, value / scale, **HALF)


def test_small_activations_keep_their_precision(launches):
    # 1 - 2/(exp(2a) + 1) and exp(a) - 1 lose all digits of a number near 1e-8; torch's functions do not.
    a = torch.logspace(-8, 1.5, 400).repeat(2) * torch.tensor([1.0, -1.0]).repeat_interleave(400)
    for act in ("tanh", "elu"):
        z = torch.stack([a, torch.full_like(a, -torch.inf)]).unsqueeze(0)  # a closed gate
        launches.gate_(z, torch.zeros_like(a), act, torch.empty_like(a), a.numel())
        exact = torch.tanh(a.double()) if act == "tanh" else nn.functional.elu(a.double())
        torch.testing.assert_close(z[0, 0].double(), exact, rtol=1e-6, atol=0)


def test_nan_is_propagated(launches):
    for act in FUSED_ACTIVATIONS:
        z, y = torch.tensor([[[torch.nan, 1.0], [0.0, 0.0]]]), torch.empty(2)
        launches.gate_(z, torch.zeros(2), act, y, 2)
        assert y.isnan().tolist() == [True, False], act


@pytest.mark.usefixtures("as_if_on_a_gpu")
@pytest.mark.parametrize("recompute", [False, True])
def test_a_stack_trains_like_separate_layers(recompute):
    stack = HighwayStack(6, 5, "tanh", recompute=recompute, generator=torch.Generator().manual_seed(0))
    layers, x = stack.to_layers(), draw(2, 9, 6)
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, wanted = stack(one), layers(other)
    torch.testing.assert_close(y, wanted, **SINGLE)
    y.square().sum().backward()
    wanted.square().sum().backward()
    torch.testing.assert_close(one.grad, other.grad, **SINGLE)
    torch.testing.assert_close(stack.weight.grad, torch.stack([layer.weight.grad for layer in layers]), **SINGLE)


@pytest.mark.usefixtures("as_if_on_a_gpu")
def test_a_population_equals_its_members():
    stacks = [HighwayStack(6, 4, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    x, weight, bias = (
        draw(9, 6),
        torch.stack([s.weight for s in stacks]).detach(),
        torch.stack([s.bias for s in stacks]).detach(),
    )

    def run(weight, bias):
        return torch.func.functional_call(stacks[0], {"weight": weight, "bias": bias}, (x,))

    torch.testing.assert_close(vmap(run)(weight, bias), torch.stack([s(x) for s in stacks]).detach(), **SINGLE)


@pytest.mark.usefixtures("as_if_on_a_gpu")
def test_hooks_receive_every_state_and_gradient():
    stack, recorded = HighwayStack(6, 4, "tanh", generator=torch.Generator().manual_seed(0)), {}
    stack.states.register_forward_hook(lambda module, args, states: recorded.update(states=states))
    stack.gradients.register_forward_hook(lambda module, args, gradients: recorded.update(G=gradients))
    layers, x, outputs = stack.to_layers(), draw(9, 6), []
    stack(x).sum().backward()
    y = x
    for layer in layers:
        y = layer(y)
        y.retain_grad()
        outputs.append(y)
    y.sum().backward()
    torch.testing.assert_close(recorded["states"].x, torch.stack([x, *outputs[:-1]]), **SINGLE)
    torch.testing.assert_close(recorded["G"], torch.stack([y.grad for y in outputs]), **SINGLE)


CONVS = {
    "2d": lambda: (HighwayConv2d(3, 3, "tanh"), draw(2, 3, 5, 4), True),
    "2d, channels last": lambda: (
        HighwayConv2d(3, 3, "relu").to(memory_format=torch.channels_last),
        draw(2, 3, 5, 4).contiguous(memory_format=torch.channels_last),
        True,
    ),
    "1d": lambda: (HighwayConv1d(3, 3, "sigmoid"), draw(2, 3, 7), True),
    "2d, with gaps in memory": lambda: (HighwayConv2d(3, 3, "relu"), draw(2, 3, 5, 8)[..., ::2], False),
}


@pytest.mark.parametrize("name", CONVS)
def test_a_convolution_is_equal_with_and_without_the_kernels(name, launches, monkeypatch):
    layer, x, is_taken = CONVS[name]()
    called = []
    monkeypatch.setattr(
        launches, "gate_backward", lambda *args, of=launches.gate_backward: called.append(1) or of(*args)
    )
    monkeypatch.setattr(Tensor, "is_cuda", True)
    results = {}
    for kernels in (None, launches):
        monkeypatch.setattr(conv_autograd, "gpu_kernels", lambda x, kernels=kernels: kernels)
        entered = x.detach().requires_grad_()
        y = layer(entered)
        results[kernels] = y, *torch.autograd.grad(y, (entered, *layer.parameters()), draw(*y.shape, seed=5))
    for one, other in zip(*results.values(), strict=True):
        torch.testing.assert_close(one, other, **SINGLE)
    assert bool(called) == is_taken


@pytest.fixture
def a_gpu(launches, monkeypatch):
    """Make the CPU appear as a GPU to torch."""
    monkeypatch.setattr(gpu, "_FOUND", {})
    monkeypatch.setitem(sys.modules, "thruway.nn.triton_launch", launches)
    monkeypatch.setattr(thruway.nn, "triton_launch", launches, raising=False)
    said = {"get_device_capability": (9, 0), "get_device_name": "A GPU", "is_current_stream_capturing": False}
    for name, value in said.items():
        monkeypatch.setattr(torch.cuda, name, lambda *args, value=value: value)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(Tensor, "is_cuda", True)
    return torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
def test_the_trial_accepts_correct_kernels(a_gpu, launches, dtype):
    assert gpu._load_checked(a_gpu, dtype) is launches


def test_wrong_results_are_detected_and_named(a_gpu, launches, monkeypatch):
    monkeypatch.setattr(launches, "gate_backward", lambda g, x, z, act, dz, carry, inner: dz.zero_())
    with pytest.warns(UserWarning, match=r"A GPU cannot run .*dL/dx of 1 layers of width 70 has an error of"):
        assert gpu._load_checked(a_gpu, torch.float32) is None


def test_a_compiler_error_falls_back_to_torch(a_gpu, launches, monkeypatch):
    def no_compiler(*args):
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(launches, "forward_layers", no_compiler)
    with pytest.warns(UserWarning, match="RuntimeError: Failed to find C compiler"):
        assert gpu_kernels(torch.ones(2)) is None
    assert gpu_kernels(torch.ones(2)) is None  # warned once


def test_out_of_memory_in_the_trial_is_not_remembered(a_gpu, launches, monkeypatch):
    def no_memory(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(launches, "forward_layers", no_memory)
        assert gpu_kernels(torch.ones(2)) is None
    assert gpu_kernels(torch.ones(2)) is launches


def test_old_gpus_and_missing_triton_give_no_warning(a_gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    assert gpu._load_checked(a_gpu, torch.float32) is None
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setitem(sys.modules, "triton", None)
    assert gpu._load_checked(a_gpu, torch.float32) is None


def test_only_supported_tensors_use_the_kernels(a_gpu, launches):
    assert gpu_kernels(torch.ones(2)) is launches
    assert gpu_kernels(torch.ones(2, dtype=torch.float64)) is None
    assert gpu_kernels(torch.ones(0, 2)) is None
    with FakeTensorMode():
        assert gpu_kernels(torch.ones(2)) is None
    with FlopCounterMode(display=False):
        assert gpu_kernels(torch.ones(2)) is None


def test_no_trial_runs_during_graph_capture(a_gpu, launches, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert gpu_kernels(torch.ones(2)) is None
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert gpu_kernels(torch.ones(2)) is launches
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert gpu_kernels(torch.ones(2)) is launches


SURROUNDINGS = {
    "nothing special": contextlib.nullcontext,
    "inference": torch.inference_mode,
    "no gradient": torch.no_grad,
    "another default device": lambda: torch.device("meta"),
    "what is saved goes elsewhere": torch.autograd.graph.save_on_cpu,
}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_the_trial_may_run_in_any_context(a_gpu, launches, name):
    stack, x = HighwayStack(5, 3, "tanh", generator=torch.Generator().manual_seed(0)), draw(4, 5)
    with SURROUNDINGS[name]():
        y = stack(x)
    assert list(gpu._FOUND.values()) == [launches]
    torch.testing.assert_close(y, stack.to_layers()(x), **SINGLE)


def test_the_trial_may_run_in_a_checkpoint(a_gpu, launches):
    layer, x = HighwayConv2d(3, 3, "tanh", generator=torch.Generator().manual_seed(0)), draw(2, 3, 4, 4)
    checkpoint(layer, x, use_reentrant=False).sum().backward()
    assert list(gpu._FOUND.values()) == [launches]
    ours, layer.weight.grad = layer.weight.grad, None
    layer(x).sum().backward()
    assert torch.equal(ours, layer.weight.grad)


def test_the_trial_ignores_the_default_dtype(a_gpu, launches):
    torch.set_default_dtype(torch.float64)
    try:
        assert gpu_kernels(torch.ones(2, dtype=torch.float32)) is launches
    finally:
        torch.set_default_dtype(torch.float32)


def test_tracing_uses_torch_operations(a_gpu):
    layer, x = HighwayConv2d(3, 3, generator=torch.Generator().manual_seed(0)), draw(2, 3, 4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's own warnings
        traced = torch.jit.trace(layer, (x,))
    torch.testing.assert_close(traced(x), layer(x), **SINGLE)


def test_a_function_mode_does_not_see_the_launches(a_gpu):
    class Recording(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            recorded.append(func)
            return func(*args, **(kwargs or {}))

    stack, x, recorded = HighwayStack(5, 3, generator=torch.Generator().manual_seed(0)), draw(4, 5), []
    with Recording():
        stack(x).sum().backward()
    names = [getattr(func, "__name__", "") for func in recorded]
    assert not {"data_ptr", "bmm", "baddbmm", "sigmoid_"} & set(names), names


@pytest.mark.usefixtures("as_if_on_a_gpu")
@pytest.mark.parametrize("width", [5, 70])
def test_jacobians_by_vmap_over_the_backward_pass(width):
    stack, x = HighwayStack(width, 4, "tanh", generator=torch.Generator().manual_seed(0)), draw(3, width)
    ours, wanted = jacrev(stack)(x), jacrev(stack.to_layers())(x)
    torch.testing.assert_close(ours, wanted, **SINGLE)


def test_products_have_torchs_precision(launches):
    said = torch.backends.cuda.matmul
    before = said.fp32_precision
    try:
        for allowed, ours in (("ieee", "ieee"), ("tf32", "tf32"), ("none", "ieee")):
            said.fp32_precision = allowed
            assert launches._precision() == ours
    finally:
        said.fp32_precision = before


def test_sizes_beyond_32_bit_indices_run_layer_by_layer(launches):
    assert not launches._is_wide(50, 20_000_000)
    assert launches._is_wide(50, 43_000_000)
    assert launches._is_wide(65, 1)


def test_a_tensor_on_another_device_raises():
    with pytest.raises(ShapeError, match="HighwayStack is on cpu, its input on meta"):
        HighwayStack(5, 3)(torch.ones(2, 5, device="meta"))


@pytest.mark.slow
def test_every_kernel_compiles_for_real_gpus():
    """Compile to machine code, which needs no GPU, in a new process without the interpreter."""
    script = Path(__file__).with_name("compiled_kernels.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    compiled = json.loads(done.stdout)
    assert {each["kernel"] for each in compiled} == {"gate", "ungate", "stack_forward", "stack_backward"}
    for each in compiled:
        assert each["fast_memory"] <= 48 * 1024, each  # the default of shared memory per program
        assert each["spilled"] <= 256, each  # register spills in bytes per thread


@pytest.fixture
def real_gpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return torch.device("cuda", torch.cuda.current_device())


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("width", [50, 200])
def test_a_real_gpu_runs_the_kernels_correctly(real_gpu, width, dtype):
    assert gpu_kernels(torch.ones(1, device=real_gpu)) is not None
    stack = HighwayStack(width, 6, "tanh", generator=torch.Generator().manual_seed(0))
    layers, x = stack.to_layers().double(), draw(30, width)
    layers(x.double()).square().sum().backward()
    stack = stack.to(real_gpu, dtype)
    stack(x.to(real_gpu, dtype)).square().sum().backward()
    wanted = torch.stack([layer.weight.grad for layer in layers]).float()
    scale = wanted.abs().max()
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2  # bfloat16: a few roundings of 4e-3 in each of six layers
    torch.testing.assert_close(stack.weight.grad.float().cpu() / scale, wanted / scale, rtol=0, atol=tolerance)


@pytest.mark.gpu
def test_a_cuda_graph_captures_a_training_step(real_gpu):
    stack = HighwayStack(50, 20, generator=torch.Generator().manual_seed(0)).to(real_gpu)
    x = draw(100, 50).to(real_gpu)
    wanted = torch.autograd.grad(stack(x).square().sum(), list(stack.parameters()))
    graphed = torch.cuda.make_graphed_callables(stack, (x.clone(),))
    graphed(x).square().sum().backward()
    for one, other in zip((stack.weight.grad, stack.bias.grad), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
