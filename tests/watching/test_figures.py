"""Figures and notebook view of a trace: the right numbers in the right place."""

import base64
import math
import re
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.errors import ConfigError
from thruway.figures.scales import SEQUENTIAL
from thruway.nn import HighwayLinear
from thruway.watching import DEFAULT, QUANTITIES, Quantity, Site, Trace, watch
from thruway.watching.quantities.collector import Measured
from thruway.watching.sites import Registry
from thruway.watching.trace.figures import FIGURES
from thruway.watching.trace.notebook import MAP_SIZE, png_data_url

SPAN = Quantity("span", "volts", lambda rows: rows.high - rows.low, ("output",))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.norm = nn.LayerNorm(6)
        self.highway = HighwayLinear(6)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + torch.tanh(layer(x))
        return self.highway(self.norm(F.relu(x)))


@pytest.fixture(scope="module")
def trace() -> Trace:
    generator = torch.Generator().manual_seed(0)
    net = Net()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(generator=generator)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    quantities = [*DEFAULT, "p2", "p50", "p98", "histogram", "effective_rank", SPAN]
    with watch(net, optimizer=optimizer, quantities=quantities, first_step=100) as trace:
        for _ in range(12):
            net(torch.randn(8, 6, generator=generator)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    return trace


def of_numbers(values: Any, quantity: str = "std", kind: Any = "gradient", model: str = "Net") -> Trace:
    """A trace of these numbers, (sites, steps)."""
    registry = Registry()
    table = np.asarray(values, dtype=np.float64)
    sites = tuple(registry.add(Site(f"layer {row}", kind, "Linear")) for row in range(len(table)))
    trace = Trace(model, registry, None, 1 << 30)
    for step, column in enumerate(table.T):
        trace.add(step, [Measured(QUANTITIES[quantity], sites, 1, column)])
    return trace


def drawn(figure: Any) -> NDArray[np.float64]:
    return np.asarray(figure.data[0].z, dtype=np.float64)


# --- figures


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("std", "output"),
        ("std", "gradient"),
        ("saturation", "output"),
        ("norm", "parameter"),
        ("update_ratio", "update"),
    ],
)
def test_a_map_shows_the_numbers_of_the_series(trace: Trace, what: str, kind: Any) -> None:
    figure, series = trace.figure(what, kind), trace.series(what, kind)
    assert list(figure.data[0].x) == series.steps.tolist() == list(range(100, 112))
    assert list(figure.data[0].y) == series.names
    np.testing.assert_array_equal(drawn(figure), series.values.astype(np.float32))


def test_every_style_draws_what_it_needs(trace: Trace) -> None:
    for name, style in FIGURES.items():
        figure = trace.figure(style.needs[0] if style.needs else "mean", style=name)
        assert figure.data, name
    mean, std = (trace.series(each) for each in ("mean", "std"))
    row = mean.names.index("layers.1.tanh")
    figure = trace.figure("mean", style="mean_and_spread", sites=["layers.1.tanh"])
    np.testing.assert_allclose(figure.data[1].y, mean.values[row])
    low = figure.data[0].y[-12:][::-1]  # the band: its upper edge, then its lower one back
    np.testing.assert_allclose(
        np.sort([figure.data[0].y[:12], low], axis=0),
        np.sort([mean.values[row] - std.values[row], mean.values[row] + std.values[row]], axis=0),
    )
    bands = trace.figure("p98", style="percentile_bands", sites=["layers.1.tanh"])
    found = [each.y.tolist() for each in bands.data if each.fill is None and len(each.y) == 12]
    wanted = [trace.series(each).values[row].tolist() for each in ("p50", "p98", "p2", "std")]
    assert found == wanted
    intervals = trace.figure("std", style="std_intervals", sites="layers.1.tanh")
    np.testing.assert_allclose(intervals.data[1].y, std.values[row])


def test_histograms_are_of_the_step_that_was_asked_for(trace: Trace) -> None:
    figure = trace.figure("histogram", sites=["layers.0.tanh"], step=100)
    found = trace.histogram("layers.0.tanh", step=100)
    density = found.counts / found.counts.sum() / np.diff(found.edges)
    np.testing.assert_allclose(figure.data[0].y, density)
    assert figure.layout.xaxis.title.text == "output at step 100"
    assert trace.figure("histogram").layout.xaxis.title.text == "output at step 110"


def test_layers_without_a_finite_value_have_no_histogram() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2), nn.Tanh())
    with torch.no_grad():
        net[2].weight.fill_(math.nan)
    with watch(net, quantities=["histogram"]) as trace:
        net(torch.randn(4, 2, generator=torch.Generator().manual_seed(0))).sum().backward()
    first, last = trace.figure("histogram").data
    assert np.isfinite(first.y).all()
    assert np.isnan(last.y).all()


def test_figures_of_few_layers_show_activations_by_default(trace: Trace) -> None:
    names = {each.name for each in trace.figure("std", style="std_intervals").data}
    assert names == {
        "layers.0.tanh",
        "layers.1.tanh",
        "layers.2.tanh",
        "relu",
        "highway.activation",
        "highway.transform_gate",
    }
    assert len(trace.figure("std").data[0].y) == len(trace.series("std").sites)
    weights = {each.name for each in trace.figure("std", "parameter", style="std_intervals").data}
    assert weights >= {"norm.weight", "highway.weight"}


def test_the_probe_draws_itself() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    with watch(net, probe=torch.ones(1, 2)) as trace:
        net(torch.zeros(1, 2)).sum().backward()
    assert trace.probe is not None
    wanted = net(torch.ones(1, 2)).detach().double().mean().item()
    # float32's mean of two numbers of size 1
    assert drawn(trace.probe.figure("mean"))[-1, 0] == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        (
            "activations",
            ["layers.0.tanh", "layers.1.tanh", "layers.2.tanh", "relu", "highway.activation", "highway.transform_gate"],
        ),
        ("gates", ["highway.transform_gate"]),
        ("layers.1", ["layers.1"]),
        (["add_*", "norm"], ["add_2", "add_3", "norm"]),
        (lambda site: site.operation == "LayerNorm", ["norm"]),
    ],
)
@pytest.mark.parametrize("kind", ["output", "gradient"])
def test_sites_are_chosen(trace: Trace, kind: Any, choice: Any, wanted: list[str]) -> None:
    assert list(trace.figure("std", kind, sites=choice).data[0].y) == wanted


def test_modules_differ_from_functions_in_their_code(trace: Trace) -> None:
    names = list(trace.figure("std", sites="modules").data[0].y)
    assert {"layers.0", "norm", "highway"} <= set(names)
    assert not {name for name in names if name.endswith("tanh") or name.startswith("add")}


def test_colours_are_logarithmic_where_the_small_would_not_be_seen() -> None:
    def is_log(trace: Trace) -> bool:
        return "coloraxis2" in trace.figure(trace.quantities(trace.sites[0].kind)[0]).layout.to_plotly_json()

    assert is_log(of_numbers([[1e-7, 1.0]]))
    assert is_log(of_numbers([[0.0, 1e-7], [math.nan, 1.0]]))
    assert not is_log(of_numbers([[0.1, 1.0]]))
    assert not is_log(of_numbers([[0.0, 0.0]]))
    assert not is_log(of_numbers([[1e-7, 1.0]], "saturation_low", "output"))  # a share is a share


def test_signed_numbers_have_their_zero_in_the_middle(trace: Trace) -> None:
    axis = trace.figure("mean").layout.coloraxis
    assert axis.cmin == -axis.cmax
    assert of_numbers([[0.2, 0.5]]).figure("std").layout.coloraxis.cmin == pytest.approx(0.2)


def test_a_quantity_that_is_seldom_taken_has_columns_only_then(trace: Trace) -> None:
    assert list(trace.figure("effective_rank").data[0].x) == [100, 110]


def test_units_are_said_also_of_a_quantity_of_the_users_own(trace: Trace, tmp_path: Path) -> None:
    for each in (trace, Trace.load(trace.save(tmp_path / "t.npz"))):
        assert each.figure("span").layout.coloraxis.colorbar.title.text == "span (volts)"
    assert trace.figure("saturation").layout.coloraxis.colorbar.title.text == "saturation (share of values)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"what": "sdt"}, r"unknown quantity 'sdt'; did you mean 'std'\?"),
        ({"what": "rms"}, r"To record it, watch with quantities=\[\*DEFAULT, 'rms'\]"),
        ({"what": "norm", "kind": "output"}, "not measured at outputs, but at 'parameter', 'parameter_gradient', 'upd"),
        ({"what": "std", "kind": "weights"}, "unknown kind of site 'weights'"),
        ({"what": "std", "style": "heatmap"}, "unknown style of figure 'heatmap'; did you mean 'heat_map'"),
        ({"what": "zeros", "style": "std_intervals"}, "std_intervals is drawn from std, not from 'zeros'"),
        ({"what": "std", "step": 3}, "step=3 is for histograms; heat_map shows every step"),
        ({"what": "histogram", "step": 3}, "no histogram was measured at outputs at step 3"),
        (
            {"what": "std", "sites": "activation"},
            r"no site for 'activation' among the \d+ .*Pass one of activations, modul",
        ),
        ({"what": "std", "sites": ["norm", "head"]}, "no site for 'head'"),
        ({"what": "std", "sites": lambda site: False}, "no site for the function passed as sites"),
        ({"what": "norm", "kind": "parameter", "sites": "gates"}, "no site for 'gates'"),
    ],
    ids=lambda value: (
        " ".join(f"{k} {v}" for k, v in value.items() if not callable(v)) if isinstance(value, dict) else ""
    ),
)
def test_errors_list_the_known_values(trace: Trace, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trace.figure(**arguments)


def test_a_style_names_the_quantities_that_it_lacks() -> None:
    trace = of_numbers([[0.1, 0.2]], "mean", "output")
    with pytest.raises(ConfigError, match=r"needs mean, std; at outputs std was not measured. .*\[\*DEFAULT, 'std'\]"):
        trace.figure("mean", style="mean_and_spread")
    with pytest.raises(ConfigError, match="nothing has been recorded yet"):
        Trace("Net", Registry(), None, 0).figure("mean")


# --- the picture in a notebook


def pixels(url: str) -> NDArray[np.uint8]:
    """(height, width, red green blue alpha) of an indexed PNG."""
    content = base64.b64decode(url.removeprefix("data:image/png;base64,"))
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack_from(">I", content, at + 8 + length)[0]
        chunks[kind] = body
        at += 12 + length
    width, height = struct.unpack_from(">II", chunks[b"IHDR"])
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    palette = np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)
    alpha = np.full(len(palette), 255, np.uint8)
    alpha[: len(chunks[b"tRNS"])] = np.frombuffer(chunks[b"tRNS"], np.uint8)
    return np.dstack([palette[lines[:, 1:]], alpha[lines[:, 1:]]])


def test_the_picture_has_the_first_layer_at_the_bottom_and_gaps_see_through() -> None:
    seen = pixels(png_data_url(np.array([[0.0, math.nan], [1.0, 2.0]])))
    lowest, highest = (tuple(int(shade[i : i + 2], 16) for i in (1, 3, 5)) for shade in (SEQUENTIAL[0], SEQUENTIAL[-1]))
    assert tuple(seen[1, 0]) == (*lowest, 255)
    assert tuple(seen[0, 1]) == (*highest, 255)
    assert seen[1, 1, 3] == 0


def test_the_picture_of_a_huge_map_is_small_and_shows_a_single_spike() -> None:
    values = np.zeros((2000, 5000))
    values[777, 1234] = 1.0
    seen = pixels(png_data_url(values))
    assert (seen.shape[0] <= MAP_SIZE[0]) & (seen.shape[1] <= MAP_SIZE[1])
    spikes = np.argwhere(seen[..., 0] != seen[0, 0, 0])
    assert spikes.tolist() == [[seen.shape[0] - 1 - 777 // 8, 1234 // 17]]


class Balance(HTMLParser):
    """Every element that is opened is closed, and there is no script."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ("div", "span", "b", "table", "thead", "tbody", "tr", "th", "td", "img")
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> str:
    parser = Balance()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return " ".join(parser.text)


def test_a_notebook_shows_the_state_of_things(trace: Trace) -> None:
    text = read(trace._repr_html_())
    mean, std = (trace.series(each, "gradient") for each in ("mean", "std"))
    rows = [std.names.index(name) for name in ("layers.0.tanh", "highway.activation")]
    first, last = np.hypot(mean.values[rows, -1], std.values[rows, -1])
    ends = f"{first:.2g} at layers.0.tanh, {last:.2g} at highway.activation"
    message = f"gradient rms {ends}: first / last = {first / last:.2g}"
    assert message in text
    low, high = (trace.series(f"saturation_{end}") for end in ("low", "high"))
    relu = low.values[low.names.index("relu"), -1]
    assert f"{relu:.1%}" in text
    assert "highway.transform_gate" not in text  # gates are meant to be shut
    assert "all finite" in text
    assert high.names != low.names


def test_a_notebook_of_a_thousand_layers_is_small() -> None:
    values = np.random.default_rng(0).lognormal(sigma=5, size=(1000, 500))
    page = of_numbers(values)._repr_html_()
    read(page)
    # 250 x 300 cells of a byte, hardly packed as they are noise, in base64
    assert len(page) < 250 * 300 * 1.5


def test_names_in_a_notebook_are_text() -> None:
    hostile = "</div><script>alert(1)</script><img src=x onerror=alert(2)>"
    registry = Registry()
    sites = [registry.add(Site(hostile + end, kind, "Tanh", "tanh")) for end in "ab" for kind in ("output", "gradient")]
    trace = Trace(hostile, registry, None, 1 << 20)
    outputs, gradients = tuple(sites[::2]), tuple(sites[1::2])
    ends = [Measured(QUANTITIES[f"saturation_{end}"], outputs, 1, np.array([0.1, 0.2])) for end in ("low", "high")]
    trace.add(0, [*ends, Measured(QUANTITIES["std"], gradients, 1, np.array([0.1, math.nan]))])
    trace.failure = ValueError(hostile)
    assert hostile in read(trace._repr_html_())
    assert hostile in read(Trace(hostile, Registry(), None, 0)._repr_html_())


# --- the page of the guide


def test_the_guide_lists_every_quantity_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "watching.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`( \*)? \| ([^|]*) \| ([^|]*) \| ([^|]*) \|", page, flags=re.MULTILINE)
    listed = {name: (bool(star), unit.strip(), every.strip()) for name, star, _, unit, every in rows}
    assert listed == {
        name: (name in DEFAULT, row.unit or "its own", "step" if row.stride == 1 else f"{row.stride}th step")
        for name, row in QUANTITIES.items()
    }
