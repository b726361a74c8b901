"""Shortened tick labels that keep the distinguishing parts of layer names."""

import itertools
import re
from collections.abc import Sequence

from thruway.figures.panels import label

__all__ = ["shortened"]


def shortened(names: Sequence[str], longest: int) -> list[str]:
    """Shorten `names` to `longest` characters: drop their common parts, then the middle of each.

    The names of modules often differ only by a number in the middle of their paths.

    >>> shortened([f"transformer.h.{i}.mlp.c_proj" for i in (0, 11)], 12)
    ['…0…', '…11…']
    >>> shortened(["h.0.attention.output", "h.11.intermediate.dense"], 12)
    ['…0.att…utput', '…11.in…dense']
    >>> shortened(["encoder.layer.10", "encoder.layer.11"], 12)
    ['…10', '…11']
    >>> shortened(["dense 1", "dense 2"], 12)
    ['dense 1', 'dense 2']
    """
    if max((len(name) for name in names), default=0) <= longest:
        return [label(name) for name in names]
    head, tail = (_shared(names, backwards) for backwards in (False, True)) if len(names) > 1 else ("", "")
    kept = [("…" if head else "") + name[len(head) : len(name) - len(tail)] + ("…" if tail else "") for name in names]
    return [label(_without_middle(name, longest)) for name in kept]


def _shared(names: Sequence[str], backwards: bool) -> str:
    """Return the common prefix or suffix of all names up to a word boundary, so that no number is split."""
    columns = zip(*(reversed(name) if backwards else name for name in names), strict=False)
    common = "".join(column[0] for column in itertools.takewhile(lambda column: len(set(column)) == 1, columns))
    words = re.match(r".*[^0-9A-Za-z]", common)
    shared = words[0] if words else ""
    return shared[::-1] if backwards else shared


def _without_middle(name: str, longest: int) -> str:
    if len(name) <= longest:
        return name
    end = (longest - 1) // 2
    return name[: longest - 1 - end] + "…" + name[-end:]
