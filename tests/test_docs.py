"""The README and the docs: their Python runs, their links lead somewhere, and what they name exists.

The Python blocks of a page run from top to bottom in one namespace.
"""

import re
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest
import torch

from thruway.experiments import STUDIES

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
WRITTEN = [README, ROOT / "CHANGELOG.md", ROOT / "results" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [page for page in WRITTEN if "```python" in page.read_text()]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def name_of(page):
    return str(page.relative_to(ROOT))


# --- code

VALUE = re.compile(r"True|False|-?\d+(?:\.\d+)?")


def check_printed(comment, values):
    """Compare the numbers and booleans that a comment begins with to the printed values, to the digits it gives."""
    for word, value in zip(comment.replace(",", " ").split(), values, strict=False):
        word = word.rstrip(":;")
        if not VALUE.fullmatch(word):
            return
        if word in ("True", "False"):
            assert str(value) == word
        else:
            digits = len(word.partition(".")[2])
            assert abs(float(value) - float(word)) <= 0.5 * 10**-digits, (comment, values)


def test_a_wrong_comment_is_seen():
    check_printed("True 1.0, nearly", (True, 1.04))
    check_printed("which layers are missed", ("anything",))
    for comment, values in (("True", (False,)), ("38986 2", (38986, 3)), ("0.13: what", (0.14,))):
        with pytest.raises(AssertionError):
            check_printed(comment, values)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_code_on_the_page_runs(page):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    lines = []

    def printing(*values):
        line = lines[sys._getframe(1).f_lineno - 1]
        check_printed(line.partition("  # ")[2], values)

    namespace = {"print": printing}
    before = torch.get_rng_state()
    for number, block in enumerate(blocks):
        lines[:] = block.splitlines()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            exec(compile(block, f"{page.name}, block {number}", "exec"), namespace)
    torch.set_rng_state(before)


def test_the_pages_with_code_are_found():
    assert {"README.md", "docs/guide.md", "docs/migrating.md"} <= {name_of(page) for page in PAGES}


def test_the_transcript_of_the_network_that_does_not_train(tmp_path):
    """The page shows what `thruway watch` prints for its script; numbers may differ in their last digits."""
    blocks = re.findall(r"```text\n(.*?)```", (ROOT / "docs" / "not_training.md").read_text(), flags=re.DOTALL)
    script, _, shown, *_ = blocks
    (tmp_path / "train.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "-m", "thruway.watch", "train.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    printed = done.stdout + done.stderr.replace(f"{tmp_path}/", "")

    def words(text):
        return re.sub(r"\d[\d.,e+-]*", "0", text).split()

    assert shown.startswith("$ thruway watch train.py\n")
    assert words(printed) == words(shown.partition("\n")[2])
    excerpt = re.search(r"```text\n(.*?)```", README.read_text(), flags=re.DOTALL)[1]
    assert {line for line in excerpt.splitlines() if "..." not in line} <= set(shown.splitlines())


# --- links


def anchors(page):
    """The anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page):
    """Links and images of a page that lead to no file of the repository, or to no heading."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if link.startswith("https://"):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", [*WRITTEN, *sorted((ROOT / "results").glob("*/README.md"))], ids=name_of)
def test_links_lead_somewhere(page):
    assert broken_links(page) == []


def test_a_broken_link_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A heading, and more\n[a](page.md) [b](#a-heading-and-more) [c](none.md) ![d](#nowhere)")
    assert broken_links(page) == ["none.md", "#nowhere"]


# --- names


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_studies_that_a_page_runs_exist(page):
    names = set(re.findall(r"thruway run ([a-z]+\d{4}\.[a-z_]+)", page.read_text()))
    assert names <= set(STUDIES)


def test_the_readme_names_the_extras_for_users():
    install = README.read_text().partition("## Install")[2].partition("\n## ")[0]
    extras = set(PROJECT["optional-dependencies"]) - {"test", "check", "docs"}
    assert {extra for extra in extras if f"`{extra}`" in install} == extras
    for page in WRITTEN:
        named = re.findall(r"(?:thruway|\.)\[([a-z,]+)\]", page.read_text())
        assert {extra for group in named for extra in group.split(",")} <= extras, page


def test_the_readme_installs_the_tested_torch_and_the_present_version():
    install = README.read_text()
    pinned = re.search(r"^torch==\S+$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)[0]
    assert f"pip install {pinned} " in install
    assert f"dist/thruway-{PROJECT['version']}-py3-none-any.whl" in install


def test_the_readme_is_short_and_shows_code_before_tables():
    text = README.read_text()
    assert len(text.split()) <= 900
    assert text.rindex("```python") < text.index("\n| ")
    assert len(re.findall(r"^\| --- ", text, flags=re.MULTILINE)) == 1


def test_the_files_that_the_architecture_names_exist():
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`([\w/]+\.(?:py|c))`", page))
    assert len(named) >= 15
    source = ROOT / "src" / "thruway"
    # A file's folder is left out where the same row or sentence has named it.
    assert [name for name in sorted(named) if not (source / name).exists() and not [*source.rglob(name)]] == []
