"""The proof-reading script draws prose of every kind, and no code."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("draw_sentences", ROOT / "docs" / "draw_sentences.py")
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)

SOURCE = '''\
"""The module in one line.

A second sentence, see sec. 3 of it. And a
third on two lines.

    a formula = not prose

>>> code_of_a_doctest(1, 2, 3)
result of the doctest
"""

LIMIT = 3
"""The attribute has a docstring."""

"a string that documents nothing"


class Thing:
    """The class in one line."""

    def method(self, size):
        """The method in one line.

        Args:
            size: the number of
                things to make.
        Raises:
            ValueError: if the size is negative.
        """
        if size < 0:
            raise ValueError(f"size must be at least 0, got {size!r}. " "Pass a larger one.")
        return "a string that is returned"
'''

PAGE = """\
# A heading of five words

A sentence on the page. Another
sentence with `code` in it.

- An item of a list.

| a table | with four cells |

```python
code_of_the_page(1, 2, 3)
```

![the text of an image](image.png)
"""

EXPECTED = [
    ("docstring", 1, "The module in one line."),
    ("docstring", 3, "A second sentence, see sec. 3 of it."),
    ("docstring", 3, "And a third on two lines."),
    ("docstring", 13, "The attribute has a docstring."),
    ("docstring", 19, "The class in one line."),
    ("docstring", 22, "The method in one line."),
    ("docstring", 25, "size: the number of things to make."),
    ("docstring", 28, "ValueError: if the size is negative."),
    ("error", 31, "size must be at least 0, got {size}."),
    ("error", 31, "Pass a larger one."),
    ("page", 3, "A sentence on the page."),
    ("page", 3, "Another sentence with `code` in it."),
    ("page", 6, "An item of a list."),
]


@pytest.fixture
def root(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "src" / "module.py").write_text(SOURCE)
    (tmp_path / "docs" / "page.md").write_text(PAGE)
    return tmp_path


def test_the_prose_is_found_and_the_code_is_not(root):
    found = [(sentence.kind, sentence.line, sentence.text) for sentence in script.sentences(root)]
    assert found == EXPECTED


def test_every_sentence_can_be_drawn(root):
    drawn = {sentence.text for seed in range(20) for sentence in script.draw(seed, 5, root=root)}
    assert drawn == {text for _, _, text in EXPECTED}


def test_the_same_seed_draws_the_same_sentences(root):
    first, again, other = (script.draw(seed, 5, root=root) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("kind", script.KINDS)
def test_one_kind_can_be_drawn(root, kind):
    assert {sentence.kind for sentence in script.draw(0, 3, (kind,), root)} == {kind}


def test_the_repository_has_sentences_of_every_kind():
    found = script.sentences()
    assert {sentence.kind for sentence in found} == set(script.KINDS)
    assert all(">>>" not in sentence.text and "```" not in sentence.text for sentence in found)
