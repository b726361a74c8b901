"""HTML built from values, so that unescaped text cannot reach the page.

Text becomes markup in one place only: `tag` escapes every child that is not markup already.
"""

import html
from dataclasses import dataclass

__all__ = ["Markup", "join", "tag"]

VOID = frozenset({"br", "link", "meta"})  # elements without an end tag


@dataclass(frozen=True)
class Markup:
    """HTML that is safe to place as it is."""

    html: str


def tag(name: str, /, *children: Markup | str, **attributes: str) -> Markup:
    """The element `name`, its text and attribute values escaped.

    A trailing underscore avoids Python's keywords, other underscores become hyphens.

    >>> tag("p", "a < b", tag("b", "c"), class_="note").html
    '<p class="note">a &lt; b<b>c</b></p>'
    """
    pairs = "".join(f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for key, value in attributes.items())
    if name in VOID:
        return Markup(f"<{name}{pairs}>")
    return Markup(f"<{name}{pairs}>{join(*children).html}</{name}>")


def join(*children: Markup | str) -> Markup:
    """Children side by side; strings among them are escaped.

    >>> join("&", Markup("<br>")).html
    '&amp;<br>'
    """
    return Markup("".join(child.html if isinstance(child, Markup) else html.escape(child) for child in children))
