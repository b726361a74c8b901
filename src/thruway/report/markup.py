"""HTML elements built from escaped values, so that unescaped text cannot reach the page.

`tag` and `join` escape every child that is not `Markup` already.
"""

import html
from dataclasses import dataclass

__all__ = ["Markup", "join", "tag"]

VOID = frozenset({"br", "link", "meta"})  # elements without an end tag


@dataclass(frozen=True)
class Markup:
    """HTML that is already escaped."""

    html: str


def tag(name: str, /, *children: Markup | str, **attributes: str) -> Markup:
    """Return the element `name` with escaped children and attribute values.

    In attribute names a trailing underscore is removed (`class_`), and other underscores become hyphens.

    >>> tag("p", "a < b", tag("b", "c"), class_="note").html
    '<p class="note">a &lt; b<b>c</b></p>'
    """
    pairs = "".join(f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for key, value in attributes.items())
    if name in VOID:
        return Markup(f"<{name}{pairs}>")
    return Markup(f"<{name}{pairs}>{join(*children).html}</{name}>")


def join(*children: Markup | str) -> Markup:
    """Concatenate children; strings among them are escaped.

    >>> join("&", Markup("<br>")).html
    '&amp;<br>'
    """
    return Markup("".join(child.html if isinstance(child, Markup) else html.escape(child) for child in children))
