"""Figures in a real browser: they draw without messages, and the hover text names layer and step."""

import numpy as np
import pytest
from browser import CHROMIUM, chromium

from thruway.figures import (
    heat_map,
    layer_histograms,
    mean_and_spread,
    percentile_bands,
    run_curves,
    std_intervals,
    surface,
)
from thruway.report import Page, Section, write_page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)"),
]

DRAWN = "Number(document.documentElement.dataset.drawn ?? 0)"
# Chromium's messages about 3-D canvases without a graphics card, and about speed.
KNOWN = ("GPU stall due to ReadPixels", "fallback to software WebGL", "Multiple readback operations")
RNG = np.random.default_rng(0)
STEPS = np.arange(50) * 10


def few():
    return RNG.lognormal(size=(5, 50))


def figures():
    grid = np.linspace(-1, 1, 20)
    names = [f"transformer.h.{i}.mlp.c_proj" for i in range(30)]
    signed = RNG.normal(size=(30, 50))
    signed[3, 5:9] = np.nan
    return {
        "map": heat_map(few(), STEPS, quantity="gradient norm", unit="nats", log=True),
        "signed": heat_map(signed, STEPS, names, quantity="mean", diverging=True, title="tanh"),
        "percentiles": percentile_bands(-few(), few(), few(), STEPS, spread=few(), quantity="activation"),
        "mean": mean_and_spread(few(), few(), STEPS, quantity="activation"),
        "std": std_intervals({"standard": few(), "normalized": few()}, STEPS, quantity="gradient", unit="nats"),
        "histograms": layer_histograms(np.arange(11), RNG.integers(0, 9, size=(5, 10)), quantity="activation"),
        "surface": surface(
            grid,
            grid,
            {"cross-entropy": np.add.outer(grid**2, grid), "quadratic": np.add.outer(grid, grid**2) - 1},
            x_name="W1 (weight)",
            y_name="W2 (weight)",
            z_name="cost (nats)",
        ),
        "curves": run_curves({"tanh": (STEPS, few()[0])}, x_name="examples seen", y_name="test error (%)"),
    }


@pytest.fixture(scope="module")
def tab():
    with chromium() as browser:
        yield browser


def open_quietly(tab, path):
    tab.requests.clear()
    tab.complaints.clear()
    tab.open(path)
    tab.wait(f"{DRAWN} > 0 || document.querySelector('.problem')")
    asked = [each for each in tab.requests if not each.startswith("data:")]  # a heat map is an image in the page
    assert asked == [path.resolve().as_uri()]
    assert [each for each in tab.complaints if not any(known in each for known in KNOWN)] == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_figure_draws_without_messages_and_fits(tab, tmp_path, scheme, width):
    tab.shape(scheme, width, 900)
    sections = tuple(Section(name, figure, "reading") for name, figure in figures().items())
    open_quietly(tab, write_page(Page("Figures", "", "", (), sections), tmp_path / "r.html"))
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.evaluate("document.querySelectorAll('.heatmaplayer image').length") == 2
    assert tab.evaluate("document.querySelectorAll('.scatterlayer .js-line').length") >= 5 * 4 + 5 + 20 + 5 + 1
    assert tab.evaluate("document.querySelectorAll('.plot')[6]._fullLayout.scene._scene.glplot.objects.length") >= 2
    color = "getComputedStyle(document.querySelector('.cbtitle text')).fill"
    assert tab.evaluate(color) == ("rgb(86, 93, 105)" if scheme == "light" else "rgb(163, 169, 181)")
    sticking_out = "e.getBoundingClientRect().right > innerWidth + 1 || e.getBoundingClientRect().left < -1"
    assert tab.evaluate(f"[...document.querySelectorAll('.plot text')].filter(e => {sticking_out}).length") == 0


def test_the_hover_text_names_layer_step_and_value(tab, tmp_path):
    values = few()
    values[2, 7] = 123.456
    names = [f"h.{i}.<b>&" for i in range(5)]
    figure = heat_map(values, STEPS, names, quantity="gradient norm", unit="nats", log=True)
    tab.shape("light", 1280, 900)
    open_quietly(tab, write_page(Page("", "", "", (), (Section("", figure, ""),)), tmp_path / "r.html"))
    place = tab.evaluate("""(() => {
        const box = document.querySelector(".plot"), {left, top} = box.getBoundingClientRect();
        const {xaxis, yaxis} = box._fullLayout;
        return [left + xaxis._offset + xaxis.c2p(70), top + yaxis._offset + yaxis.c2p(2)];
    })()""")
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    tab.wait("document.querySelector('.hoverlayer .hovertext')")
    assert tab.evaluate("document.querySelector('.hovertext').textContent") == "h.2.<b>&step 70gradient norm 123.5 nats"


def test_a_thousand_layers_stay_under_8_mb_and_show_their_spike(tab, tmp_path):
    values = np.full((1000, 1000), 1e-3) * RNG.lognormal(size=(1000, 1000))
    values[417, 777] = 1e6
    figure = heat_map(values, np.arange(1000) * 10, quantity="gradient norm", log=True)
    path = write_page(Page("", "", "", (), (Section("", figure, ""),)), tmp_path / "r.html")
    assert path.stat().st_size < 5e6
    tab.shape("light", 1280, 900)
    open_quietly(tab, path)
    # The image of the map has one pixel per cell; the last colour of the scale is nearly yellow.
    brightest = """new Promise(done => {
        const picture = new Image();
        picture.onload = () => {
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [picture.width, picture.height];
            const context = canvas.getContext("2d");
            context.drawImage(picture, 0, 0);
            const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
            const found = [];
            for (let i = 0; i < pixels.length; i += 4) if (pixels[i] > 240) found.push(i / 4);
            done([canvas.width, canvas.height, found]);
        };
        picture.src = document.querySelector(".heatmaplayer image").href.baseVal;
    })"""
    width, height, found = tab.evaluate(brightest)
    assert (width, height) == (500, 1000)
    assert found == [(999 - 417) * 500 + 388]
    assert tab.evaluate("document.querySelector('.heatmaplayer image').getBoundingClientRect().height") == 1000
