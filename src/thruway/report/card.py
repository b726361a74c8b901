"""Cards of a report: a framed finding with its facts, figures, tables and list of steps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import plotly.graph_objects as go

from thruway.report.content import TableData
from thruway.report.html import Markup, table, tag

__all__ = ["Card", "CardCode", "CardFigure", "CardList", "card_markup"]

Tone = Literal["", "holds", "fails", "unclear"]
Plot = Callable[[go.Figure, str], Markup]


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


def card_markup(card: Card, plot: Plot) -> Markup:
    """Return the HTML of a card; `plot` returns the HTML of a figure, given its label.

    >>> card_markup(Card("<Title>", "rule"), lambda figure, title: Markup("")).html[:69]
    '<section class="card"><header><p class="kicker"><code>rule</code></p>'
    """
    chips = [tag("span", text, class_=f"chip {tone}".strip()) for text, tone in card.chips]
    kicker = tag("p", tag("code", card.kicker) if card.kicker else "", *chips, class_="kicker")
    facts = [tag("div", tag("dt", name), tag("dd", value)) for name, value in card.facts.items()]
    return tag(
        "section",
        tag(
            "header",
            kicker if card.kicker or chips else "",
            tag("h2", card.title),
            tag("p", card.text, class_="statement") if card.text else "",
            tag("dl", *facts, class_="facts") if facts else "",
        ),
        *_parts(card, plot),
        class_="card marked" if any(tone == "fails" for _, tone in card.chips) else "card",
    )


def _parts(card: Card, plot: Plot) -> list[Markup]:
    """Return the parts; neighbouring figures are in one grid."""
    found: list[Markup] = []
    figures: list[CardFigure] = []
    for part in (*card.parts, None):
        if isinstance(part, CardFigure):
            figures.append(part)
            continue
        if figures:
            found.append(tag("div", *(_figure(each, plot, len(figures) == 1) for each in figures), class_="pictures"))
            figures = []
        if isinstance(part, CardList):
            entries = [
                tag("li", text, tag("span", remark, class_="remark") if remark else "") for text, remark in part.entries
            ]
            found.append(tag("div", tag("h3", part.title), tag("ol", *entries, class_="steps"), class_="part"))
        elif isinstance(part, CardCode):
            # Scrolls in its own box, also by keyboard.
            box = tag("pre", tag("code", part.text), tabindex="0", role="region", aria_label=part.title)
            found.append(tag("div", tag("h3", part.title), box, class_="part"))
        elif part is not None:
            found.append(tag("div", tag("h3", part[0]), table(part[1]), class_="part"))
    return found


def _figure(figure: CardFigure, plot: Plot, is_alone: bool) -> Markup:
    wide = {"class_": "picture wide"} if figure.is_wide or is_alone else {"class_": "picture"}
    return tag(
        "div",
        tag("h3", figure.title),
        tag("p", figure.caption, class_="note"),
        plot(figure.figure, figure.title),
        **wide,
    )
