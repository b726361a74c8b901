"""Cards of a report: a framed finding with its facts, figures, tables and list of steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import plotly.graph_objects as go

from thruway.report.content import TableData

__all__ = ["Card", "CardCode", "CardFigure", "CardList", "Tone"]

Tone = Literal["", "holds", "fails", "unclear"]


@dataclass(frozen=True)
class CardFigure:
    """A figure with a heading and a caption. Two that are not wide stand side by side on a wide screen."""

    title: str
    caption: str
    figure: go.Figure
    is_wide: bool = False


@dataclass(frozen=True)
class CardList:
    """A numbered list: (text, remark) for each entry."""

    title: str
    entries: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class CardCode:
    """Code or a diff, in lines that are not wrapped."""

    title: str
    text: str


@dataclass(frozen=True)
class Card:
    """One finding in a frame.

    Args:
        title: heading.
        kicker: short identifier above the heading.
        text: the main statement.
        chips: short labels beside the kicker, with their tone.
        facts: name and value of each fact, in one row.
        parts: figures, tables with a heading, lists and code, in order.
    """

    title: str
    kicker: str = ""
    text: str = ""
    chips: tuple[tuple[str, Tone], ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    parts: tuple["CardFigure | CardList | CardCode | tuple[str, TableData]", ...] = ()
