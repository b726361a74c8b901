"""Text for character-level language models: every Python brings some along.

The reference part of Python's documentation stands, topic by topic, in the standard library, for the `help` of the
interactive prompt. It says many a thing under several topics, word for word: a net would be tested on what it was
trained on. So each paragraph is kept once, where it first occurs.
"""

import dataclasses
import hashlib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from thruway.errors import ConfigError, DatasetError

__all__ = ["TextSet", "python_docs", "split_text"]


@dataclass(frozen=True, eq=False)
class TextSet:
    """A text as numbers, cut by position into three parts.

    >>> text = split_text("abracadabra", valid=0.2, test=0.2)
    >>> text.alphabet, text.train.tolist(), len(text.valid), len(text.test)
    ('abcdr', [0, 1, 4, 0, 2, 0, 3], 2, 2)
    """

    alphabet: str  # every character of the whole text, sorted
    train: Tensor  # int64, (characters,), places in the alphabet
    valid: Tensor
    test: Tensor
    sha256: str  # of the whole text in UTF-8

    def __len__(self) -> int:
        return len(self.train) + len(self.valid) + len(self.test)

    def to(self, device: torch.device | str) -> "TextSet":
        """The text on another device."""
        train, valid, test = (part.to(device) for part in (self.train, self.valid, self.test))
        return dataclasses.replace(self, train=train, valid=valid, test=test)


def split_text(text: str, valid: float = 0.05, test: float = 0.05) -> TextSet:
    """The text as numbers: first what is trained on, then the share `valid`, and the share `test` at the end.

    Raises:
        ConfigError: if the shares are not above 0, or leave no character for one of the three parts.
    """
    of_valid, of_test = int(valid * len(text)), int(test * len(text))
    train = len(text) - of_valid - of_test
    if min(valid, test) <= 0 or min(train, of_valid, of_test) < 1:
        raise ConfigError(
            f"a text of {len(text)} characters cannot be cut into shares of {valid} for validation and {test} for the "
            "test, and the rest for training. Take shares above 0 that leave a character for each part."
        )
    alphabet = "".join(sorted(set(text)))
    places = {character: place for place, character in enumerate(alphabet)}
    codes = torch.tensor([places[character] for character in text])
    test_from = train + of_valid
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return TextSet(alphabet, codes[:train], codes[train:test_from], codes[test_from:], sha256)


def python_docs() -> str:
    """The reference part of the documentation of the Python that is running, each paragraph once.

    Some 370,000 characters of English, grammar and code; they differ a little from one Python version to the next.

    Raises:
        DatasetError: if this Python came without them.

    >>> text = python_docs()
    >>> 200_000 < len(text) < 2_000_000
    True
    """
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except (ImportError, AttributeError) as error:
        raise DatasetError(
            f"this Python came without the text of its documentation ({error}). Install the whole standard library: "
            "pydoc_data.topics is the module that holds it."
        ) from None
    return _each_paragraph_once(topics)


def _each_paragraph_once(topics: Mapping[str, str]) -> str:
    """The topics one after the other, without the paragraphs that occurred before.

    >>> _each_paragraph_once({"for": "A loop.\\n\\nSee also while.", "while": "See also\\n while.\\n\\nAnother loop."})
    'A loop.\\n\\nSee also while.\\n\\nAnother loop.'
    """
    # Topics differ in where they break lines and how far they indent.
    kept: dict[str, str] = {}
    for topic in topics.values():
        for paragraph in topic.split("\n\n"):
            kept.setdefault(" ".join(paragraph.split()), paragraph)
    return "\n\n".join(kept.values())
