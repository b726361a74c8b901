"""Text data for character-level language models, including Python's own documentation.

The standard library contains the reference part of Python's documentation, sorted by topic, for the interactive `help`.
Many paragraphs occur under several topics, so a net would be tested on text it was trained on. Only the first
occurrence of each paragraph is kept.
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
    """A text encoded as character indices and split by position into three parts.

    >>> text = split_text("abracadabra", valid=0.2, test=0.2)
    >>> text.alphabet, text.train.tolist(), len(text.valid), len(text.test)
    ('abcdr', [0, 1, 4, 0, 2, 0, 3], 2, 2)
    """

    alphabet: str  # all distinct characters of the text, sorted
    train: Tensor  # int64, (characters,), indices into the alphabet
    valid: Tensor
    test: Tensor
    sha256: str  # of the whole text in UTF-8

    def __len__(self) -> int:
        return len(self.train) + len(self.valid) + len(self.test)

    def __repr__(self) -> str:
        sizes = f"train={len(self.train)}, valid={len(self.valid)}, test={len(self.test)}"
        return f"TextSet({sizes}, {len(self.alphabet)} different characters, sha256='{self.sha256[:12]}...')"

    def to(self, device: torch.device | str) -> "TextSet":
        """Return a copy of the text on another device."""
        train, valid, test = (part.to(device) for part in (self.train, self.valid, self.test))
        return dataclasses.replace(self, train=train, valid=valid, test=test)


def split_text(text: str, valid: float = 0.05, test: float = 0.05) -> TextSet:
    """Encode a text and split it into training, validation and test parts, in this order.

    Args:
        text: the text.
        valid, test: shares of the characters for validation and test.
    Raises:
        ConfigError: if a share is not above 0, or one of the three parts would be empty.
    """
    of_valid, of_test = int(valid * len(text)), int(test * len(text))
    train = len(text) - of_valid - of_test
    if min(valid, test) <= 0 or min(train, of_valid, of_test) < 1:
        raise ConfigError(
            f"a text of {len(text)} characters cannot be split into shares of {valid} for validation and {test} for "
            "test, with the rest for training. Choose shares above 0 that leave each part at least one character."
        )
    alphabet = "".join(sorted(set(text)))
    index_of = {character: index for index, character in enumerate(alphabet)}
    codes = torch.tensor([index_of[character] for character in text])
    test_from = train + of_valid
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return TextSet(alphabet, codes[:train], codes[train:test_from], codes[test_from:], sha256)


def python_docs() -> str:
    """Return the reference part of the documentation of the running Python, without repeated paragraphs.

    About 370,000 characters of English, grammar and code. The text differs slightly between Python versions.

    Raises:
        DatasetError: if this Python installation does not include the documentation.

    >>> text = python_docs()
    >>> 200_000 < len(text) < 2_000_000
    True
    """
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except (ImportError, AttributeError) as error:
        raise DatasetError(
            f"this Python installation does not include the text of its documentation ({error}). Install the complete "
            "standard library, with the module pydoc_data.topics."
        ) from None
    return _without_repeated_paragraphs(topics)


def _without_repeated_paragraphs(topics: Mapping[str, str]) -> str:
    """Concatenate the topics and drop paragraphs that occurred before.

    >>> topics = {"for": "A loop.\\n\\nSee also while.", "while": "See also\\n while.\\n\\nAnother loop."}
    >>> _without_repeated_paragraphs(topics)
    'A loop.\\n\\nSee also while.\\n\\nAnother loop.'
    """
    # Paragraphs are compared without line breaks and indentation, which differ between topics.
    kept: dict[str, str] = {}
    for topic in topics.values():
        for paragraph in topic.split("\n\n"):
            kept.setdefault(" ".join(paragraph.split()), paragraph)
    return "\n\n".join(kept.values())
