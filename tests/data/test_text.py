"""Encoding and splitting of texts, and the text of Python's documentation."""

import hashlib
import sys

import pytest
import torch

from thruway.data.text import python_docs, split_text
from thruway.errors import ConfigError, DatasetError


def test_a_text_can_be_read_back_from_its_parts():
    text = "the rain in Spain – stays mainly in the plain\n" * 7
    parts = split_text(text, valid=0.1, test=0.2)
    codes = torch.cat([parts.train, parts.valid, parts.test])
    assert "".join(parts.alphabet[code] for code in codes) == text
    assert (len(parts.valid), len(parts.test), len(parts)) == (int(0.1 * len(text)), int(0.2 * len(text)), len(text))
    assert list(parts.alphabet) == sorted(set(text))
    assert parts.sha256 == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(("valid", "test"), [(0.0, 0.1), (0.1, -0.1), (0.5, 0.5), (0.01, 0.1)])
def test_shares_that_leave_a_part_empty_are_refused(valid, test):
    with pytest.raises(ConfigError, match=f"30 characters .* {valid} for validation and {test} for test"):
        split_text("abc" * 10, valid, test)


def test_the_documentation_is_large_and_without_repetitions():
    text = python_docs()
    assert len(text) > 200_000
    assert len(set(text)) < 200
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    assert len(set(paragraphs)) == len(paragraphs)
    topics = sys.modules["pydoc_data.topics"].topics
    everything = {" ".join(p.split()) for topic in topics.values() for p in topic.split("\n\n")}
    assert set(paragraphs) == everything  # and nothing is missing


def test_the_test_part_does_not_repeat_the_training_part():
    """With repeated paragraphs, one twelfth of these pieces would occur in the training part."""
    parts = split_text(python_docs())
    train, test = ("".join(parts.alphabet[code] for code in part) for part in (parts.train, parts.test))
    pieces = [test[start : start + 100] for start in range(0, len(test) - 100, 100)]
    assert sum(piece in train for piece in pieces) < 0.01 * len(pieces)


def test_a_python_without_its_documentation_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DatasetError, match=r"does not include .* its documentation.*complete standard library"):
        python_docs()
