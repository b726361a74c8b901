"""Passes of lesioned models: what they compute, what they leave behind, and when they raise."""

import inspect
import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thruway.dissecting import DissectError, Loss, dissect
from thruway.errors import ConfigError
from thruway.nn import Residual

WIDTH = 4


class Counted(nn.Module):
    """A linear layer that counts how often it is really computed"""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(WIDTH, WIDTH))
        self.computed = 0

    def forward(self, x):
        return _Multiplied.apply(x, self.weight, self)


class _Multiplied(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, counter):
        y = x @ weight
        if not y._is_view() and y.stride() != (0, 0):  # a stand-in has no memory of its own
            counter.computed += 1
        return y

    @staticmethod
    def backward(ctx, g):
        raise NotImplementedError


def counted_net(blocks=3):
    torch.manual_seed(0)
    return nn.Sequential(*(Residual(nn.Sequential(nn.LayerNorm(WIDTH), Counted(), nn.Tanh())) for _ in range(blocks)))


def counts(net):
    return [module.computed for module in net.modules() if isinstance(module, Counted)]


def test_what_is_left_out_is_not_computed():
    net, x = counted_net(), torch.rand(2, WIDTH)
    d = dissect(net, x)
    assert counts(net) == [1, 1, 1]
    d.without(1)(x)
    assert counts(net) == [2, 1, 2]
    d.without(0, 2)(x)
    assert counts(net) == [2, 2, 2]
    d.forward(x)
    assert counts(net) == [3, 3, 3]  # the alarm works


def test_what_two_branches_share_is_computed_unless_both_are_left_out():
    class Parallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared, self.a, self.b = Counted(), Counted(), Counted()

        def forward(self, x):
            h = self.shared(x).tanh()
            return x + self.a(h).tanh() + self.b(h).relu()

    net, x = Parallel(), torch.rand(2, WIDTH)
    d = dissect(net, x)
    d.without(0)(x)
    assert counts(net) == [2, 1, 2]
    d.without(0, 1)(x)
    assert counts(net) == [2, 1, 2]


def test_nested_branches_have_parents():
    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = Counted(), Counted(), Counted()

        def forward(self, x):
            h = self.a(x)
            h = h + self.b(h).tanh()
            return x + self.c(h).tanh()

    net, x = Nested(), torch.rand(2, WIDTH)
    d = dissect(net, x)
    inner, outer = d.branches
    assert (inner.parent, outer.parent) == (1, None)
    assert set(inner.calls) < set(outer.calls)
    assert (inner.parameters, outer.parameters) == (WIDTH**2, 3 * WIDTH**2)
    assert torch.equal(d.without(outer)(x), x)
    assert torch.equal(d.without(inner, outer)(x), x)
    assert counts(net) == [1, 1, 1]


def test_sources_follow_the_stream():
    net, x = counted_net(), torch.rand(2, WIDTH)
    first, second, third = dissect(net, x).branches
    assert (first.source, second.source, third.source) == (None, first.join, second.join)


# --- afterwards


class Odd(nn.Module):
    """Batch norm, dropout, a generator of its own, a buffer that is replaced"""

    def __init__(self):
        super().__init__()
        self.f, self.norm, self.drop = nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.Dropout(0.5)
        self.generator = torch.Generator().manual_seed(1)
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, x):
        self.steps = self.steps + 1
        noise = torch.rand(x.shape, generator=self.generator)
        return x + self.drop(torch.tanh(self.norm(self.f(x)))) + 0 * noise


def state(net):
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    return kept | {"generator": net.generator.get_state(), "global": torch.get_rng_state()}


def hooks(net):
    return [(len(m._forward_hooks), len(m._forward_pre_hooks), "forward" in vars(m)) for m in net.modules()]


def assert_same_state(before, after):
    for name in before:
        assert torch.equal(before[name], after[name]), name


def test_dissecting_leaves_no_trace_in_a_model_in_training():
    net = Odd().train()
    before, buffers, hooked = state(net), dict(net.named_buffers()), hooks(net)
    dissect(net, torch.rand(3, WIDTH, generator=torch.Generator().manual_seed(0)))
    assert_same_state(before, state(net))
    assert all(buffer is buffers[name] for name, buffer in net.named_buffers())
    assert hooks(net) == hooked
    net(torch.rand(3, WIDTH))
    with pytest.raises(AssertionError):  # the alarm works
        assert_same_state(before, state(net))


def test_a_lesion_leaves_buffers_as_they_are_and_draws_as_the_shorter_model_does():
    net = Odd().train()
    x = torch.rand(3, WIDTH)
    d = dissect(net, x)
    before = state(net)
    y = d.without(0)(x)
    assert torch.equal(y, x)
    after = state(net)
    generator = torch.Generator()
    generator.set_state(before.pop("generator"))
    torch.rand(x.shape, generator=generator)
    assert torch.equal(after.pop("generator"), generator.get_state())  # the noise is drawn, the dropout is not
    assert_same_state(before, after)


def test_nothing_is_left_when_the_model_raises():
    class Refusing(nn.Module):
        def __init__(self):
            super().__init__()
            self.f, self.limit = nn.Linear(WIDTH, WIDTH), 2

        def forward(self, x):
            y = x + self.f(x).tanh()
            if len(x) > self.limit:
                raise ValueError("too many")
            return y

    net, x = Refusing(), torch.rand(2, WIDTH)
    d, hooked = dissect(net, x), hooks(net)
    many = torch.rand(3, WIDTH)
    for act in (lambda: dissect(net, many), lambda: d.without(0)(many)):
        with pytest.raises(ValueError, match="too many"):
            act()
        assert hooks(net) == hooked
        assert torch.overrides._get_current_function_mode() is None
    net.limit = 9
    assert torch.equal(d.without(0)(many), many)


class Noisy(nn.Module):
    """Dropout, noise in evaluation too, and, where asked, an error once all that was drawn"""

    def __init__(self):
        super().__init__()
        self.f, self.g, self.drop = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Dropout(0.5)
        self.generator, self.fails = torch.Generator().manual_seed(1), False

    def forward(self, x):
        x = x + self.drop(torch.tanh(self.f(x)))
        x = x + 0.1 * torch.randn(x.shape) + 0.1 * torch.rand(x.shape, generator=self.generator)
        x = x + self.drop(torch.tanh(self.g(x)))
        if self.fails:
            raise ArithmeticError("on purpose")
        return x


WAYS_TO_LOOK = {
    "dissect": lambda net, d, x, y: dissect(net, x),
    "another form": lambda net, d, x, y: d.engine.traced((x[:1],), {}, refresh=True),
    "delete each": lambda net, d, x, y: d.delete_each(Loss([(x, y), (x, y)])),
    "delete each, nothing kept": lambda net, d, x, y: d.delete_each(Loss([(x, y)]), memory=0),
    "delete each by a function": lambda net, d, x, y: d.delete_each(lambda m: F.cross_entropy(m(x), y).item()),
    "delete some": lambda net, d, x, y: d.delete(1, 3, Loss([(x, y)]), torch.Generator().manual_seed(0)),
    "swap pairs": lambda net, d, x, y: d.permute_pairs(1, 3, Loss([(x, y)]), torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize("is_training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", WAYS_TO_LOOK)
def test_all_random_numbers_come_after_it_as_they_would_have_without(name, is_training):
    with torch.random.fork_rng():
        torch.manual_seed(7)
        torch.randn(3)  # an odd count: half a pair of normals is kept for the next draw
        net, x, y = Noisy().train(is_training), torch.rand(3, WIDTH), torch.tensor([0, 1, 2])
        d = dissect(net, x)
        for net.fails in (False, True):
            before, own = torch.get_rng_state(), net.generator.get_state()
            if net.fails:
                with pytest.raises(ArithmeticError, match="on purpose"):
                    WAYS_TO_LOOK[name](net, d, x, y)
            else:
                WAYS_TO_LOOK[name](net, d, x, y)
            assert torch.equal(torch.get_rng_state(), before)
            assert torch.equal(net.generator.get_state(), own)
            assert net.training == net.drop.training == is_training
        net.fails = False
        net(x)
        assert not torch.equal(torch.get_rng_state(), before)  # the alarm works
        assert not torch.equal(net.generator.get_state(), own)


def test_the_intact_model_is_the_model():
    net, x = counted_net(), torch.rand(2, WIDTH)
    d = dissect(net, x)
    seen = []
    handle = net.register_forward_hook(lambda *_: seen.append(torch.overrides._get_current_function_mode()))
    assert torch.equal(d.forward(x), net(x))
    handle.remove()
    assert seen == [None, None]


def test_gradients_flow_through_what_is_left():
    torch.manual_seed(0)
    net = nn.Sequential(*(Residual(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh())) for _ in range(2))).double()
    x = torch.rand(2, WIDTH, dtype=torch.float64, requires_grad=True)
    d = dissect(net, x)
    (g,) = torch.autograd.grad(d.without(0)(x).square().sum(), x)
    (twin,) = torch.autograd.grad(net[1](x).square().sum(), x)
    assert torch.equal(g, twin)
    cut = d.merged({0: lambda at: at.shortcut.detach() + at.branch})
    (g,) = torch.autograd.grad(cut(x).square().sum(), x)
    (twin,) = torch.autograd.grad(net[1](x.detach() + net[0].branch(x)).square().sum(), x)
    torch.testing.assert_close(g, twin, rtol=1e-12, atol=1e-12)  # the sums run in another order


# --- other ways through the model


class Depends(nn.Module):
    """Its way depends on `decide`"""

    def __init__(self, decide):
        super().__init__()
        self.f, self.g, self.decide = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), decide

    def forward(self, x):
        if self.decide(x):
            x = F.relu(x)
        x = x + torch.tanh(self.f(x))
        if self.decide(x):
            x = F.relu(x)
        return x + torch.tanh(self.g(x))


def test_a_new_input_size_is_traced_again():
    net = Depends(lambda x: len(x) % 2 == 1)
    d = dissect(net, torch.randn(2, WIDTH))
    x = torch.randn(3, WIDTH)
    h = x.relu().relu()
    assert torch.equal(d.without(0)(x), h + torch.tanh(net.g(h)))


def test_other_calls_for_other_data_are_traced_again():
    net = Depends(lambda x: bool(x[0, 0] > 0))
    x = torch.randn(2, WIDTH)
    x[0, 0] = -5.0
    d = dissect(net, x)
    y = torch.randn(2, WIDTH)
    y[0, 0] = 5.0
    h = y.relu()
    assert torch.equal(d.without(0)(y), h.relu() + torch.tanh(net.g(h.relu())))
    assert torch.equal(d.without(0)(x), x + torch.tanh(net.g(x)))


def test_calls_that_depend_on_the_lesion_are_refused():
    net = Depends(lambda x: bool(x.sum() > 0))
    with torch.no_grad():
        net.f.weight.zero_()
        net.f.bias.fill_(9.0)
    x = torch.full((2, WIDTH), -0.1)  # below 0 without the branch, above with it
    d = dissect(net, x)
    assert torch.equal(d.without(1)(x), (x + torch.tanh(net.f(x))).relu())
    with pytest.raises(DissectError, match=r"called tanh|called linear|where the tape has call \d+, relu"):
        d.without(0, 1)(x)


class Crossing(nn.Module):
    """Two branches computed in one order and added in either"""

    def __init__(self):
        super().__init__()
        self.f, self.g, self.is_crossed, self.stops = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), False, False

    def forward(self, x):
        h, k = torch.tanh(self.f(x)), torch.tanh(self.g(x))
        y = x + (k if self.is_crossed else h)
        return y if self.stops else y + (h if self.is_crossed else k)


def test_the_same_calls_on_other_values_are_noticed():
    net, x = Crossing(), torch.rand(2, WIDTH)
    d = dissect(net, x)
    assert torch.equal(d.without(0)(x), x + torch.tanh(net.g(x)))
    net.is_crossed = True
    with pytest.raises(DissectError, match=r"number 0 was f \(identity\) and is g"):
        d.without(0)(x)


def test_a_pass_that_ends_before_the_join_gives_no_number():
    net, x = Crossing(), torch.rand(2, WIDTH)
    d = dissect(net, x)
    net.stops = True
    with pytest.raises(DissectError, match="other branches"):
        d.without(1)(x)


def test_a_pass_with_more_outputs_is_traced_again():
    class Tells(nn.Module):
        def __init__(self):
            super().__init__()
            self.f, self.tells = nn.Linear(WIDTH, WIDTH), False

        def forward(self, x):
            h = torch.tanh(self.f(x))
            return (x + h, h) if self.tells else (x + h, None)

    net, x = Tells(), torch.rand(2, WIDTH)
    d = dissect(net, x)
    net.tells = True
    y, h = d.without(0)(x)
    assert torch.equal(y, x)
    assert torch.equal(h, torch.tanh(net.f(x)))


def test_tracing_again_draws_no_random_numbers():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Dropout(0.5), Depends(lambda x: bool(x[0].max() > 4))).train()
    small, large = torch.rand(2, WIDTH), 9 + torch.rand(2, WIDTH)
    d = dissect(net, small)
    torch.manual_seed(5)
    y = d.without(0)(large)
    torch.manual_seed(5)
    h = F.dropout(large, 0.5).relu()
    assert torch.equal(y, h + torch.tanh(net[1].g(h)))


def test_the_shortcut_comes_out_in_the_type_of_the_sum():
    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.Linear(WIDTH, WIDTH, dtype=torch.float64)

        def forward(self, x):
            return x + torch.tanh(self.f(x.double()))

    x = torch.rand(2, WIDTH)
    y = dissect(Wide(), x).without(0)(x)
    assert y.dtype == torch.float64
    assert torch.equal(y, x.double())


def test_tokens_start_a_stream():
    class Language(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.f = nn.Embedding(5, WIDTH), nn.Linear(WIDTH, WIDTH)

        def forward(self, ids, mask):
            x = self.words(ids) * mask.unsqueeze(-1).float()
            return x + torch.tanh(self.f(x))

    net, ids = Language(), torch.tensor([[0, 3, 4]])
    d = dissect(net, (ids, ids > 0))
    assert torch.equal(d.without(0)(ids, ids > 0), net.words(ids) * (ids > 0).unsqueeze(-1).float())


def test_a_branch_that_python_reads_is_computed():
    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = Counted()

        def forward(self, x):
            h = self.f(x)
            return x + (torch.tanh(h) if h.tolist()[0][0] > 0 else torch.relu(h))

    net, x = Looks(), torch.rand(2, WIDTH)
    assert torch.equal(dissect(net, x).without(0)(x), x)
    assert counts(net) == [2]


def test_other_outputs_of_the_model_are_right():
    class Keeps(nn.Module):
        """Gives hidden values out, in an object of its own, and keeps one"""

        def __init__(self):
            super().__init__()
            self.f, self.g, self.kept = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), None

        def forward(self, x):
            class Output:
                pass

            output = Output()
            hidden, self.kept = self.f(x), self.g(x)
            output.hidden = [hidden]
            output.y = x + torch.tanh(hidden) * torch.tanh(self.kept)
            return output

    net, x = Keeps(), torch.rand(2, WIDTH)
    output = dissect(net, x).without(0)(x)
    assert torch.equal(output.y, x)
    assert torch.equal(output.hidden[0], net.f(x))
    assert torch.equal(net.kept, net.g(x))


def test_weights_that_change_are_used_and_autocast_is_followed():
    net, x = nn.Sequential(Residual(nn.Linear(WIDTH, WIDTH)), nn.Linear(WIDTH, 2)), torch.rand(2, WIDTH)
    d = dissect(net, x)
    with torch.no_grad():
        net[1].weight.mul_(2)
    assert torch.equal(d.without(0)(x), net[1](x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(d.without(0)(x), net[1](x))
    with torch.inference_mode():
        assert torch.equal(d.without(0)(x), net[1](x))


def test_threads_do_not_affect_each_other():
    net, x = counted_net(), torch.rand(2, WIDTH)
    d, wanted = dissect(net, x), net(x)
    found = []

    def elsewhere(*_):
        if threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=lambda: found.append(net(x)))
            thread.start()
            thread.join(10)

    handle = net[0].register_forward_hook(elsewhere)
    lesioned = d.without(2)(x)
    handle.remove()
    assert torch.equal(found[-1], wanted)
    assert torch.equal(lesioned, d.without(2)(x))


# --- the stand-in for the model


def test_a_lesioned_model_is_a_view():
    net, x = counted_net(), torch.rand(2, WIDTH)
    net.note = "mine"
    lesioned = dissect(net, x).without(1)
    assert lesioned.note == "mine"
    assert next(iter(lesioned.parameters())) is next(net.parameters())
    assert next(iter(lesioned.modules())) is net
    assert "without 1" in repr(lesioned)
    for act in (lesioned.double, lambda: lesioned.load_state_dict({})):
        with pytest.raises(DissectError, match="view of a model"):
            act()


def test_eval_applies_to_passes_of_the_view_only():
    net = nn.Sequential(Residual(nn.Linear(WIDTH, WIDTH)), nn.Dropout(0.5), nn.Linear(WIDTH, 2)).train()
    x = torch.rand(8, WIDTH)
    lesioned = dissect(net, x).without(0).eval()
    assert torch.equal(lesioned(x), net[2](x))
    assert net.training
    assert net[1].training
    assert not torch.equal(lesioned.train()(x), net[2](x))


@pytest.mark.parametrize(
    ("which", "message"),
    [(5, "3 branches"), ("2.nothing", "unknown branch"), (None, "got None"), (True, "got True")],
    ids=["index", "name", "none", "truth"],
)
def test_branches_that_do_not_exist_are_refused(which, message):
    with pytest.raises(ConfigError, match=message):
        dissect(counted_net(), torch.rand(2, WIDTH)).without(which)


def test_branches_are_selected_by_index_name_or_object():
    net, x = counted_net(), torch.rand(2, WIDTH)
    d = dissect(net, x)
    wanted = d.without(0, 2)(x)
    for same in (d.without([0, -1]), d.without("0", d.branches[2]), d.without({0, 2})):
        assert torch.equal(same(x), wanted)


def test_the_summary_lists_branches_and_refusals():
    text = dissect(counted_net(), torch.rand(2, WIDTH)).summary()
    assert "3 branches (3 identity)" in text
    assert "2 x 4" in text
    assert "<td" in dissect(counted_net(), torch.rand(2, WIDTH))._repr_html_()


def test_reading_is_a_deprecated_name():
    net, x = counted_net(), torch.rand(2, WIDTH)
    d = dissect(net, x)
    with pytest.warns(DeprecationWarning, match="engine.traced"):
        tape, found = d.reading((x,), {})
    assert (tape, found) == d.engine.traced((x,), {})


def test_methods_have_the_parameters_of_the_functions_they_call():
    from thruway.dissecting import Dissection

    for name in ("delete", "permute_pairs", "effective_depth", "over_training"):
        parameters = inspect.signature(getattr(Dissection, name)).parameters.values()
        assert not any(each.kind is each.VAR_KEYWORD for each in parameters)
        assert getattr(Dissection, name).__doc__.count("Args:") == 1


class CachesByBatch(nn.Module):
    """A residual network whose first pass at each batch size computes a table, as rotary embeddings do."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.cache = {}

    def forward(self, x):
        if len(x) not in self.cache:
            self.cache[len(x)] = torch.arange(len(x)).float().mul(0.1).cos().unsqueeze(1)
        x = x * self.cache[len(x)]
        for layer in self.layers:
            x = x + layer(x)
        return x


def test_a_pass_that_fills_a_cache_is_recorded_again():
    """The tape of a new batch size holds calls that the next pass does not make."""
    model = CachesByBatch().eval()
    d = dissect(model, torch.ones(2, 4))
    x = torch.ones(5, 4)
    swapped = d.swap(0, 1)(x)
    order = [model.layers[index] for index in (1, 0, 2)]
    expected = x * model.cache[5]
    for layer in order:
        expected = expected + layer(expected)
    assert torch.equal(swapped, expected)
    assert d.permute([2, 1, 0])(torch.ones(6, 4)).shape == (6, 4)
    assert d.without(1)(torch.ones(7, 4)).shape == (7, 4)


CASTS = {
    "type_as": lambda x, h: (x + h).type_as(h),
    "to": lambda x, h: (x + h).to(h),
    "to, dtype": lambda x, h: (x + h).to(h.dtype),
    "type of x": lambda x, h: x + h.type(x.type()),
    "type of h": lambda x, h: (x + h).type(h.type()),
}


@pytest.mark.parametrize("name", CASTS)
def test_a_cast_to_the_type_of_a_branch_does_not_need_it(name):
    class Cast(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))

        def forward(self, x):
            return CASTS[name](x, self.f(x))

    net, x = nn.Sequential(Cast(), Cast(), nn.Linear(WIDTH, 2)), torch.rand(3, WIDTH)
    d = dissect(net, x)
    expected = net[2](net[1](x))
    assert torch.equal(d.without(0)(x), expected)
    each = d.delete_each(Loss([(x, torch.tensor([0, 1, 1]))]))
    assert each[0].value == pytest.approx(F.cross_entropy(expected, torch.tensor([0, 1, 1])).item())
