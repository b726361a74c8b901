"""Every Python block of the README and the docs runs, top to bottom, one namespace per page."""

import re
import sys
import warnings
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
PAGES = [
    page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if "```python" in page.read_text()
]


VALUE = re.compile(r"True|False|-?\d+(?:\.\d+)?")


def check_printed(told, values):
    """What the comment behind a print begins with, word by word, is what was printed; to the digits that it gives."""
    for word, value in zip(told.replace(",", " ").split(), values, strict=False):
        word = word.rstrip(":;")
        if not VALUE.fullmatch(word):
            return
        if word in ("True", "False"):
            assert str(value) == word
        else:
            digits = len(word.partition(".")[2])
            assert abs(float(value) - float(word)) <= 0.5 * 10**-digits, (told, values)


def test_a_wrong_comment_is_seen():
    check_printed("True 1.0, nearly", (True, 1.04))
    check_printed("which layers are missed", ("anything",))
    for told, values in (("True", (False,)), ("38986 2", (38986, 3)), ("0.13: what", (0.14,))):
        with pytest.raises(AssertionError):
            check_printed(told, values)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
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
    assert {"README.md", "guide.md", "migrating.md"} <= {page.name for page in PAGES}
