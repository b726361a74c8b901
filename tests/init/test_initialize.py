import math
from collections.abc import Iterator

import pytest
import torch
from init_cases import KINDS, FusedHighway, FusedStack, Kind, Listed, seeded
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.testing import assert_close

from thruway import init
from thruway.errors import ConfigError, InitError
from thruway.init import SCHEMES, InitSummary, Part, Row, initialize


def _row(summary: InitSummary, parameter: str, part: str = "") -> Row:
    (row,) = [row for row in summary if (row.parameter, row.part) == (parameter, part)]
    return row


def _bits(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_element_is_filled_and_seeds_are_reproducible(kind: Kind, scheme: str) -> None:
    models = [kind.build() for _ in range(2)]
    for model in models:
        for parameter in model.parameters():
            nn.init.constant_(parameter, math.nan)
        summary = initialize(model, scheme, generator=seeded(3))
        assert {row.parameter for row in summary} == {n for n, p in model.named_parameters() if p.numel()}
        assert not summary.skipped
    for (name, one), two in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert one.isfinite().all(), name
        assert torch.equal(one, two), name


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_summary_gives_the_standard_deviation(kind: Kind) -> None:
    """An orthogonal matrix has exactly the mean square that its rows in the summary give."""
    model = kind.build()
    summary = initialize(model, "orthogonal", generator=seeded(), gain=1.3)
    for name, parameter in model.named_parameters():
        rows = [row for row in summary if row.parameter == name]
        if {row.done for row in rows} == {"orthogonal"}:
            stds = torch.tensor([row.std for row in rows], dtype=torch.float64)
            # All parts of one parameter are of one size. float32 weights.
            assert parameter.double().square().mean().item() == pytest.approx(stds.square().mean().item(), rel=1e-5)


def test_maps_that_share_a_weight_have_separate_fans() -> None:
    layer = FusedHighway(64)
    summary = initialize(layer, "glorot_normal", generator=seeded())
    for part, block in zip(("transform", "transform_gate"), layer.weight.detach().chunk(2), strict=True):
        row = _row(summary, "weight", part)
        assert (row.fan_in, row.fan_out, row.std) == (64, 64, pytest.approx(1 / 8))
        # Taken as one (128, 64) map it would be 2/192: 1/3 off, against a standard error of sqrt(2/4096) = 0.022.
        assert abs(block.square().mean().item() * 64 - 1) < 5 * math.sqrt(2 / block.numel())


def test_gate_biases_start_at_the_modules_value() -> None:
    model = nn.Sequential(nn.Linear(4, 4), FusedHighway(4, gate_bias=-3.0), FusedHighway(4, gate_bias=-math.inf))
    summary = initialize(model, "glorot_uniform", generator=seeded(), bias=0.5)
    assert_close(model[0].bias.detach(), torch.full((4,), 0.5), rtol=0, atol=0)
    assert model[1].bias.tolist() == [0.0] * 4 + [-3.0] * 4
    assert model[2].bias.tolist() == [0.0] * 4 + [-math.inf] * 4
    assert _row(summary, "1.bias", "transform_gate").done == "constant -3"


def test_a_fused_stack_gets_the_same_numbers_as_separate_layers() -> None:
    stack, layers = FusedStack(6, 3), nn.Sequential(*(FusedHighway(6) for _ in range(3)))
    initialize(stack, "lecun_normal", generator=seeded())
    initialize(layers, "lecun_normal", generator=seeded())
    for fused, layer in zip(stack.weight, layers, strict=True):
        assert torch.equal(fused, layer.weight)


def test_adding_a_layer_changes_no_other_layer() -> None:
    short = nn.ModuleDict({"a": nn.Linear(3, 3), "c": nn.Linear(3, 3)})
    long = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(5, 5), "c": nn.Linear(3, 3)})
    for model in (short, long):
        initialize(model, "he_uniform", generator=seeded())
    assert torch.equal(short["c"].weight, long["c"].weight)
    assert not torch.equal(short["a"].weight, short["c"].weight)


def test_a_generator_determines_the_weights_and_leaves_the_global_one_unchanged() -> None:
    before = torch.get_rng_state()
    model = nn.Linear(3, 3)
    torch.set_rng_state(before)
    initialize(model, "he_uniform", generator=seeded(0))
    first = model.weight.detach().clone()
    initialize(model, "he_uniform", generator=seeded(1))
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(first, model.weight)


def test_the_gain_is_that_of_the_next_activation() -> None:
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8, 8),
        nn.Dropout(),
        nn.SiLU(),
        nn.Linear(8, 8),
        nn.Linear(8, 8),
        nn.Softmax(dim=1),
    )
    summary = initialize(model, "lecun_normal", generator=seeded())
    gains = {name: _row(summary, f"{name}.weight").gain for name in ("0.0", "3", "6", "7")}
    assert gains == {"0.0": math.sqrt(2), "3": 1.6765, "6": 1.0, "7": 1.0}
    assert _row(summary, "3.weight").note == "gain of silu"
    assert _row(summary, "7.weight").note == "gain 1: Softmax has no known gain"
    assert _row(initialize(nn.Linear(2, 2), "lecun_normal"), "weight").note == "gain 1: next activation unknown"


def test_the_gain_is_applied_once() -> None:
    """He's scheme includes sqrt(2); a number passed by the user always multiplies."""
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    assert _row(initialize(model, "he_normal"), "0.weight").std == pytest.approx(math.sqrt(2 / 8))
    assert _row(initialize(model, "lecun_normal"), "0.weight").std == pytest.approx(math.sqrt(2 / 8))
    assert _row(initialize(model, "he_normal", gain=3.0), "0.weight").std == pytest.approx(3 * math.sqrt(2 / 8))
    assert _row(initialize(model, "standard"), "0.weight").std == pytest.approx(math.sqrt(1 / 24))


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_gates_are_separate_maps(kind: type[nn.RNNBase], gates: int) -> None:
    layer = kind(5, 5)
    summary = initialize(layer, "orthogonal", generator=seeded(), bias=0.25)
    for block in layer.weight_hh_l0.detach().chunk(gates):
        assert_close(block @ block.T, torch.eye(5), rtol=0, atol=1e-5)  # float32
    # The sum of the two biases is the requested bias.
    assert_close((layer.bias_ih_l0 + layer.bias_hh_l0).detach(), torch.full((5 * gates,), 0.25))
    assert len([row for row in summary if row.parameter == "weight_ih_l0"]) == gates


def test_query_key_and_value_are_separate_maps() -> None:
    layer = nn.MultiheadAttention(64, 2)
    summary = initialize(layer, "glorot_uniform", generator=seeded())
    for part, block in zip(("query", "key", "value"), layer.in_proj_weight.detach().chunk(3), strict=True):
        assert _row(summary, "in_proj_weight", part).fan_out == 64
        # One (192, 64) map would have 2/256, half of this.
        assert abs(block.square().mean().item() * 64 - 1) < 5 * math.sqrt(0.8 / block.numel())


def test_the_inputs_of_transposed_convolutions_are_the_first_axis() -> None:
    layer = nn.ConvTranspose1d(6, 4, 3, groups=2)
    summary = initialize(layer, "orthogonal", generator=seeded())
    assert [(row.fan_in, row.fan_out) for row in summary if row.parameter == "weight"] == [(9, 6)] * 2
    for block in layer.weight.detach().chunk(2):
        matrix = block.transpose(0, 1).flatten(1)
        assert_close(matrix @ matrix.T, torch.eye(2), rtol=0, atol=1e-5)  # float32


def test_a_bilinear_layer_has_all_pairs_as_fan_in() -> None:
    layer = nn.Bilinear(30, 20, 40).double()
    initialize(layer, "lecun_normal", generator=seeded())
    x, y = (torch.randn(2000, n, dtype=torch.float64, generator=seeded(n)) for n in (30, 20))
    # Var of products of Gaussians: the sample of 2000 x 40 outputs has kurtosis below 9, and 40 units share inputs.
    assert abs(layer(x, y).var().item() - 1) < 5 * math.sqrt(8 / 2000)


def test_a_bilinear_layer_has_no_kernel() -> None:
    """Its third axis is a second input, not a kernel: delta-orthogonal fills all of it."""
    layer = nn.Bilinear(2, 3, 4)
    initialize(layer, "delta_orthogonal", generator=seeded())
    rows = layer.weight.detach().flatten(1)
    assert_close(rows @ rows.T, torch.eye(4), rtol=0, atol=1e-5)  # float32


def test_norms_start_as_the_identity_and_embeddings_with_unit_variance() -> None:
    norm, lookup = nn.BatchNorm1d(3), nn.Embedding(300, 20, padding_idx=7)
    for parameter in norm.parameters():
        nn.init.constant_(parameter, 9.0)
    initialize(norm, "zeros")
    assert (norm.weight.tolist(), norm.bias.tolist()) == ([1.0] * 3, [0.0] * 3)
    summary = initialize(lookup, "he_normal", generator=seeded())
    rows = torch.cat([lookup.weight[:7], lookup.weight[8:]])
    assert abs(rows.square().mean().item() - 1) < 5 * math.sqrt(2 / rows.numel())
    assert not lookup.weight[7].any()
    assert "row 7 is 0" in summary.rows[0].note


def test_shared_parameters_are_filled_once_and_by_the_linear_layer() -> None:
    model = nn.ModuleDict({"embed": nn.Embedding(50, 32), "head": nn.Linear(32, 50, bias=False)})
    model["head"].weight = model["embed"].weight
    summary = initialize(model, "lecun_normal", generator=seeded())
    assert len(summary) == 1
    row = summary.rows[0]
    assert (row.parameter, row.done, row.fan_in) == ("embed.weight", "lecun_normal", 32)
    assert "shared with head.weight" in row.note
    # As an embedding it would have variance 1.
    assert abs(model["head"].weight.square().mean().item() * 32 - 1) < 5 * math.sqrt(2 / 1600)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.scale = nn.Parameter(torch.tensor(5.0))


def test_a_parameter_without_a_rule_raises_and_nothing_is_written() -> None:
    model = nn.Sequential(nn.Linear(3, 3), Scaled())
    before = _bits(model)
    with pytest.raises(InitError, match=r"'1\.scale' of Scaled, shape \(\).*init_parts.*unknown=\"keep\""):
        initialize(model, "he_normal", generator=seeded())
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())
    summary = initialize(model, "he_normal", generator=seeded(), unknown="keep")
    assert model[1].scale.item() == 5.0
    assert [(row.parameter, row.done, row.note) for row in summary.skipped] == [
        ("1.scale", "kept", "no rule for Scaled")
    ]
    assert not torch.equal(before["0.weight"], model[0].weight)


def test_an_error_does_not_advance_the_generator() -> None:
    generator = seeded()
    with pytest.raises(InitError):
        initialize(Scaled(), "he_normal", generator=generator)
    assert torch.equal(generator.get_state(), seeded().get_state())


class Wrapper(nn.Module):
    """A module that sets the start of the gate inside it and of its own scale."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(3, 3)
        self.scale = nn.Parameter(torch.tensor(5.0))

    def init_parts(self) -> Iterator[Part]:
        yield Part("transform_gate", self.gate.weight, self.gate.bias, -4.0, "sigmoid")
        yield Part("scale", self.scale, None, weight_value=0.0)


def test_a_wrapper_sets_the_start_of_its_submodules() -> None:
    model = Wrapper()
    summary = initialize(model, "he_normal", generator=seeded())
    assert model.gate.bias.tolist() == [-4.0] * 3
    assert model.scale.item() == 0.0
    assert [row.parameter for row in summary] == ["scale", "gate.weight", "gate.bias"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            lambda w: [Part("half", w[:2], None)],
            "Listed do not cover parameter '1.weight' exactly: of its 16 elements 8 are in no",
        ),
        (lambda w: [Part("a", w, None), Part("b", w[1:2], None)], "0 are in no part and 4 in more than one"),
        (lambda w: [Part("copy", w.clone(), None)], "'copy' of Listed at '1' is not a view"),
        (lambda w: [Part("flat", w.flatten(), None)], "parameter '1.weight', part 'flat' of Listed.*no fan-in"),
        (lambda w: [Part("nan", w, None, weight_value=math.nan)], "initial value of parameter '1.weight' is nan"),
    ],
    ids=["missed", "twice", "copy", "flat", "nan"],
)
def test_invalid_parts_raise(parts: object, message: str) -> None:
    model = nn.Sequential(nn.Linear(2, 2), Listed(parts))  # type: ignore[arg-type]
    before = _bits(model)
    with pytest.raises(InitError, match=message):
        initialize(model, "lecun_normal", generator=seeded())
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


def test_parts_with_the_same_name_get_different_numbers() -> None:
    model = Listed(lambda w: [Part("map", w[:2], None), Part("map", w[2:], None)])
    initialize(model, "lecun_normal", generator=seeded())
    assert not torch.equal(model.weight[:2], model.weight[2:])


@pytest.mark.parametrize("parametrise", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_a_reparametrised_weight_raises(parametrise: object) -> None:
    model = parametrise(nn.Linear(3, 3))  # type: ignore[operator]
    with pytest.raises(InitError, match=r"'parametrizations\.weight\.original"):
        initialize(model, "orthogonal", generator=seeded())


def test_parameters_without_values_raise() -> None:
    with pytest.raises(InitError, match=r"parameter '0\.weight' is lazy.*one batch"):
        initialize(nn.Sequential(nn.LazyLinear(3)), "he_normal")
    with pytest.raises(InitError, match=r"parameter 'weight' is on the meta device.*to_empty"):
        initialize(nn.Linear(3, 3, device="meta"), "he_normal")


def test_unknown_choices_raise() -> None:
    with pytest.raises(ConfigError, match="did you mean 'he_normal'"):
        initialize(nn.Linear(3, 3), "he_norm")
    with pytest.raises(ConfigError, match="unknown='ignore'"):
        initialize(nn.Linear(3, 3), "he_normal", unknown="ignore")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="gain='relu'"):
        initialize(nn.Linear(3, 3), "he_normal", gain="relu")  # type: ignore[arg-type]


def test_looks_linear_makes_a_relu_network_linear() -> None:
    model = nn.Sequential(
        *(layer for _ in range(6) for layer in (nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.ReLU())),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 20),
        nn.ReLU(),
        nn.Linear(20, 6),
    ).double().eval()  # fmt: skip
    summary = initialize(model, "looks_linear", generator=seeded())
    x, y = torch.randn(2, 3, 8, 4, 4, dtype=torch.float64, generator=seeded(1))
    assert_close(model(2 * x - 3 * y), 2 * model(x) - 3 * model(y), rtol=0, atol=1e-12)
    forms = [row.note for row in summary if row.done == "looks_linear"]
    assert forms == ["[[V], [-V]]", *["[[V, -V], [-V, V]]"] * 7, "[V, -V]"]
    for row in summary:
        if row.done == "looks_linear":
            spread = model.get_parameter(row.parameter).square().mean().sqrt().item()
            assert spread == pytest.approx(row.std, rel=1e-12)
    # Without the pairs, a ReLU network is not linear: the check above can fail.
    initialize(model, "orthogonal", generator=seeded())
    assert (model(2 * x - 3 * y) - 2 * model(x) + 3 * model(y)).abs().max() > 1e-3


def test_bfloat16_models_are_filled() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64)).bfloat16()
    initialize(model, "orthogonal", generator=seeded())
    weight = model[0].weight.detach().double()
    # Entries are rounded to 8 bits: 64 products with errors of 2^-9 each, of entries of size 1/8.
    assert_close(weight @ weight.T, torch.eye(64, dtype=torch.float64), rtol=0, atol=5 * 2**-9 / 8 * 2)


def test_the_summary_prints_as_a_table() -> None:
    text = str(initialize(nn.Sequential(Scaled(), nn.ReLU()), "he_normal", unknown="keep"))
    head, *lines = text.splitlines()
    assert head.split() == ["parameter", "part", "done", "fan_in", "fan_out", "gain", "std", "note"]
    assert [line.split()[0] for line in lines] == ["0.scale", "0.inner.weight", "0.inner.bias"]
    # Columns are aligned with their headers.
    assert all(line[head.index("done") - 2 : head.index("done")] == "  " for line in lines)


def test_the_former_name_of_the_summary_is_deprecated():
    with pytest.warns(DeprecationWarning, match="use InitSummary"):
        assert init.Account is InitSummary
    with pytest.raises(AttributeError, match="no attribute 'Acount'"):
        _ = init.Acount
