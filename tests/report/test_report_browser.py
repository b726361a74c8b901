"""The page in a real browser: it draws without requests or messages, and follows the reader's settings."""

import plotly.graph_objects as go
import pytest
from browser import CHROMIUM, chromium
from sample_report import HOSTILE, page

from thruway.report import Page, Section, write_page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)"),
]

DRAWN = "Number(document.documentElement.dataset.drawn ?? 0)"
TEXT_COLOR = "getComputedStyle(document.querySelector('.plot .xtitle')).fill"

# Elements beyond the right edge, except those that scroll inside a table's box.
STICKING_OUT = (
    "[...document.querySelectorAll('body *')].filter(e => !e.closest('.table-box table') && !e.matches('{skip}') && "
    "e.getBoundingClientRect().right > innerWidth + 1).length"
)


@pytest.fixture(scope="module")
def tab():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return write_page(page(), tmp_path_factory.mktemp("report") / "report.html")


def open_quietly(tab, path):
    """Open the page and check that there are no requests and no messages."""
    tab.requests.clear()
    tab.complaints.clear()
    tab.open(path)
    tab.wait(f"{DRAWN} > 0 || document.querySelector('.problem')")
    assert tab.requests == [path.resolve().as_uri()]
    assert tab.complaints == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_without_messages_and_fits(tab, report, scheme, width):
    tab.shape(scheme, width, 900)
    open_quietly(tab, report)
    assert tab.evaluate("document.querySelectorAll('.plot .main-svg').length > 0")
    assert tab.evaluate("[...document.querySelectorAll('.plot')].every(box => box.querySelector('.scatterlayer path'))")
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.evaluate(STICKING_OUT.format(skip="svg *")) == 0


@pytest.mark.parametrize("width", [1280, 390])
def test_figures_fit_their_box(tab, tmp_path, width):
    """With names of normal length no label, legend or button is cut off."""
    tab.shape("light", width, 900)
    open_quietly(tab, write_page(page("highway with skips"), tmp_path / "r.html"))
    assert tab.evaluate(STICKING_OUT.format(skip="defs *")) == 0


def test_names_are_escaped(tab, report):
    tab.shape("light", 1280, 900)
    open_quietly(tab, report)
    assert tab.evaluate("document.querySelector('h1').textContent") == HOSTILE
    legends = tab.evaluate("[...document.querySelectorAll('.legendtext')].map(e => e.textContent)")
    assert any("</script><img src=x onerror=alert(1)><!--" in text for text in legends)
    assert tab.evaluate("document.querySelectorAll('img, a[href^=javascript]').length") == 0


def test_names_that_plotly_would_interpret_are_escaped(tab, tmp_path):
    name = "<b>x</b>&amp;<i>"
    tab.shape("light", 1280, 900)
    open_quietly(tab, write_page(page(name), tmp_path / "r.html"))
    assert name in tab.evaluate("[...document.querySelectorAll('.legendtext')].map(e => e.textContent)")


def test_figures_follow_the_colour_scheme(tab, report):
    tab.shape("light", 1280, 900)
    open_quietly(tab, report)
    light, drawn = tab.evaluate(TEXT_COLOR), tab.evaluate(DRAWN)
    tab.shape("dark", 1280, 900)
    tab.wait(f"{DRAWN} > {drawn}")
    assert {"light": light, "dark": tab.evaluate(TEXT_COLOR)} == {
        "light": "rgb(86, 93, 105)",
        "dark": "rgb(163, 169, 181)",
    }
    assert tab.complaints == []


def test_panels_stack_on_a_phone(tab, report):
    titles = "[...document.querySelectorAll('.plot')[1].querySelectorAll('.xtitle,.x2title')]"
    lefts = f"new Set({titles}.map(e => Math.round(e.getBoundingClientRect().left))).size"
    tab.shape("light", 1280, 900)
    open_quietly(tab, report)
    assert tab.evaluate(lefts) == 2
    drawn = tab.evaluate(DRAWN)
    tab.shape("light", 390, 900)
    tab.wait(f"{DRAWN} > {drawn}")
    assert tab.evaluate(lefts) == 1


def test_touch_scrolls_the_page(tab, report):
    """On a touch screen figures do not capture the scroll drag and have no mode bar."""
    modes = "[...new Set([...document.querySelectorAll('.plot')].map(box => box._fullLayout.dragmode))]"
    buttons = "document.querySelectorAll('.modebar-btn').length > 0"
    for width, expected in ((1280, (["zoom"], True)), (390, ([False], False))):
        tab.shape("light", width, 900)
        open_quietly(tab, report)
        assert (tab.evaluate(modes), tab.evaluate(buttons)) == expected


def test_a_damaged_page_shows_an_error(tab, report, tmp_path):
    path = tmp_path / "cut.html"
    path.write_text(report.read_text("utf-8").replace('id="plotly">eN', 'id="plotly">%%'), "utf-8")
    tab.open(path)
    tab.wait("document.querySelector('.problem')")
    notes = tab.evaluate("[...document.querySelectorAll('.plot')].map(box => box.textContent)")
    assert all("could not be drawn" in note and "summary.json" in note for note in notes)


def test_no_button_uploads_the_chart(tab, report):
    tab.shape("light", 1280, 900)
    open_quietly(tab, report)
    buttons = tab.evaluate("[...new Set([...document.querySelectorAll('.modebar-btn')].map(e => e.dataset.title))]")
    assert "Zoom" in buttons
    assert not [name for name in buttons if any(word in name.lower() for word in ("share", "cloud", "send", "edit"))]


def test_printing_uses_the_light_scheme(tab, report):
    """Printing from a dark screen uses dark text, also in figures, and restores the dark scheme."""
    tab.shape("dark", 1280, 900)
    open_quietly(tab, report)
    width = "document.querySelector('.plot .main-svg').clientWidth"
    tab.evaluate(f"window.seen = []; addEventListener('beforeprint', () => seen.push({TEXT_COLOR}, {width}))")
    tab.call("Page.printToPDF")
    assert tab.evaluate("seen") == ["rgb(86, 93, 105)", 680]
    tab.wait(f"{width} > 900")
    assert tab.evaluate(TEXT_COLOR) == "rgb(163, 169, 181)"
    assert tab.complaints == []


def test_the_browser_checks_detect_bad_pages(tab, tmp_path):
    """The checks detect a page with requests, messages and forbidden scripts."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<img src='missing.png'><script>console.error('oh');"
        "setTimeout(() => { window.threw = true; throw new Error('late') })</script>"
    )
    tab.requests.clear()
    tab.complaints.clear()
    tab.open(bad)
    tab.wait("window.threw")
    assert any("missing.png" in url for url in tab.requests)
    assert any("oh" in text for text in tab.complaints)
    assert any("late" in text for text in tab.complaints)


def test_an_injected_script_does_not_run(tab, tmp_path):
    path = write_page(
        Page("t", "", "", sections=(Section("s", go.Figure(go.Scatter(y=[1, 2])), ""),)), tmp_path / "r.html"
    )
    hurt = path.read_text("utf-8").replace(
        "</main>", "<script>window.ran = 1</script><img src=data: onerror='ran = 1'></main>"
    )
    path.write_text(hurt, "utf-8")
    tab.complaints.clear()
    tab.open(path)
    tab.wait(f"{DRAWN} > 0")
    assert tab.evaluate("window.ran ?? null") is None
    assert any("Content Security Policy" in text for text in tab.complaints)
    tab.complaints.clear()
