"""The page: one self-contained file with escaped names."""

import base64
import hashlib
import json
import re
import zlib
from html.parser import HTMLParser

import numpy as np
import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs
from sample_report import HOSTILE, page

from thruway.report import Page, Section, render_page, write_page


class Reading(HTMLParser):
    """Elements with attributes and text, as parsed by an HTML parser."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.comments, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        for element in self.open:
            element[2].append(data)

    def handle_comment(self, data):
        self.comments.append(data)

    def all(self, tag):
        return [(attrs, "".join(text)) for name, attrs, text in self.elements if name == tag]


@pytest.fixture(scope="module")
def reading():
    return Reading(render_page(page()))


def test_hostile_names_are_escaped(reading):
    assert reading.comments == []
    assert reading.all("img") == []
    assert not reading.open
    assert not [attrs for _, attrs, _ in reading.elements if any(key.startswith("on") for key in attrs)]
    for tag in ("title", "h1", "h2", "th", "dd", "dt", "li", "figcaption"):
        assert any(HOSTILE in text for _, text in reading.all(tag)), tag
    assert HOSTILE in [attrs.get("aria-label") for _, attrs, _ in reading.elements]


def test_the_check_for_hostile_names_fails_without_escaping():
    caught = Reading(f"<p><script>{HOSTILE} --></p>")
    assert caught.all("img")
    assert caught.comments


def test_nothing_is_loaded(reading):
    for _, attrs, _ in reading.elements:
        for key in ("src", "href", "srcset", "action", "data"):
            assert attrs.get(key, "data:").startswith("data:"), attrs
    style = "".join(text for _, text in reading.all("style"))
    assert "url(" not in style
    assert "@import" not in style


def test_figures_are_embedded_as_inert_json(reading):
    raw = render_page(page())
    data = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', raw, re.S)
    assert len(data) == 4
    for text in data:
        assert not set("<>&\u2028") & set(text)
        assert set(json.loads(text, parse_constant=pytest.fail)) >= {"data", "layout"}


def test_plotly_is_embedded_once_and_completely(reading):
    (bundle,) = [text for attrs, text in reading.all("script") if attrs.get("id") == "plotly"]
    assert zlib.decompress(base64.b64decode(bundle)).decode() == get_plotlyjs()


def test_the_policy_allows_only_our_scripts(reading):
    (policy,) = [
        attrs["content"] for attrs, _ in reading.all("meta") if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    (script,) = [text for attrs, text in reading.all("script") if not attrs]
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in (script, get_plotlyjs())
    }
    assert set(rules["script-src"].split()) == hashes
    # The policy applies only to elements after it.
    assert [tag for tag, _, _ in reading.elements].index("style") > 3


def test_the_script_builds_no_html():
    script = next(text for attrs, text in Reading(render_page(page())).all("script") if not attrs)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|fetch\(|XMLHttp", script)


def test_verdicts_are_words(reading):
    chips = [text for attrs, text in reading.all("span") if "chip" in attrs.get("class", "")]
    assert chips == ["✓ 1 holds", "✗ 1 fails", "? 1 unclear", "✓ holds", "✗ fails", "? unclear"]


def test_marked_cells_carry_their_class(reading):
    marked = [
        (attrs["class"], text) for attrs, text in reading.all("span") if attrs.get("class") in ("best", "diverged")
    ]
    assert ("best", HOSTILE) in marked
    assert ("diverged", "1") in marked


def test_a_page_without_figures_does_not_embed_plotly():
    text = render_page(Page("t", "s", "l", sections=(Section("a", None, "b"),)))
    assert len(text) < 20_000
    assert Reading(text).all("script") == []


def test_odd_bytes_in_a_name_are_shown(tmp_path):
    path = write_page(Page("run-\udcff", "", ""), tmp_path / "r.html")
    assert "run-\\udcff" in path.read_text("utf-8")


def test_other_figures_get_the_template_on_a_copy():
    figure = go.Figure(go.Bar(y=[1, 2]), layout={"template": "plotly"})
    before = figure.to_json()
    text = render_page(Page("t", "", "", sections=(Section("s", figure, ""),)))
    (data,) = [
        json.loads(body) for attrs, body in Reading(text).all("script") if attrs.get("type") == "application/json"
    ]
    assert data["layout"]["template"]["layout"]["paper_bgcolor"] == "rgba(0,0,0,0)"
    assert figure.to_json() == before


def test_a_hundred_layers_of_a_thousand_points_stay_under_5_mb(tmp_path):
    noise = np.random.default_rng(0).lognormal(size=(100, 1000))  # noise, which cannot be compressed
    figure = go.Figure([go.Scatter(x=np.arange(1000), y=layer) for layer in noise])
    path = write_page(Page("big", "", "", sections=(Section("s", figure, ""),)), tmp_path / "r.html")
    assert path.stat().st_size < 5_000_000
