"""HTML of a card."""

from collections.abc import Callable

import plotly.graph_objects as go

from thruway.report.card import Card, CardCode, CardFigure, CardList
from thruway.report.html import Markup, table, tag

__all__ = ["card_markup"]

Plot = Callable[[go.Figure, str], Markup]


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
