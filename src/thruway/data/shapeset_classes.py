"""Kinds of objects in Shapeset images, and the classes formed by combinations of them.

A class is written as the letters of its objects: "TP" is a triangle and a parallelogram, in either order of depth.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from thruway.errors import ConfigError

__all__ = ["KINDS", "SHAPE_CLASSES", "Kind", "Scene", "class_name", "frequencies", "scenes", "shape_classes"]

MAX_OBJECTS = 6  # per image


@dataclass(frozen=True)
class Kind:
    """A regular polygon; all objects of the kind are stretched versions of it."""

    name: str
    corners: int


# As in the authors' generator: a stretched square is a parallelogram, and 20 corners approximate an ellipse.
KINDS = {
    "T": Kind("triangle", 3),
    "P": Kind("parallelogram", 4),
    "E": Kind("ellipse", 20),
}


def shape_classes(kinds: str = "TPE", counts: Sequence[int] = (1, 2)) -> tuple[str, ...]:
    """List all classes of the given kinds and numbers of objects, in the order of the labels.

    Args:
        kinds: letters: T (triangle), P (parallelogram), E (ellipse).
        counts: numbers of objects per image.
    Raises:
        ConfigError: if a letter or a number is invalid.
    Source:
        For up to two objects, the order of the authors' labels; for more, our extension of the same rule.

    >>> " ".join(shape_classes())
    'T P E TP PE TE TT PP EE'
    >>> " ".join(shape_classes("TP", counts=[3]))
    'TTP TPP TTT PPP'
    """
    if not kinds or len(set(kinds)) != len(kinds) or not set(kinds) <= set(KINDS):
        raise ConfigError(f"kinds must be different letters of {''.join(KINDS)}, got {kinds!r}.")
    if not counts or not all(1 <= count <= MAX_OBJECTS for count in counts):
        raise ConfigError(f"counts must be numbers of objects from 1 to {MAX_OBJECTS}, got {list(counts)}.")
    order = list(kinds)

    def sort_key(letters: tuple[str, ...]) -> tuple[int, int, int]:
        return len(letters), -len(set(letters)), order.index(letters[-1]) - order.index(letters[0])

    classes = [each for count in sorted(set(counts)) for each in itertools.combinations_with_replacement(kinds, count)]
    return tuple("".join(each) for each in sorted(classes, key=sort_key))


SHAPE_CLASSES = shape_classes()


def class_name(letters: str) -> str:
    """Return the name of a class in words.

    >>> class_name("T"), class_name("TE"), class_name("PPE")
    ('triangle', 'triangle + ellipse', '2 parallelograms + ellipse')
    """
    counted = [(KINDS[letter].name, letters.count(letter)) for letter in dict.fromkeys(letters)]
    return " + ".join(name if count == 1 else f"{count} {name}s" for name, count in counted)


def frequencies(classes: Sequence[str]) -> tuple[Fraction, ...]:
    """Return the probability of each class, with uniform draws of the number of objects, then of each object's kind.

    The kinds and numbers are those that occur in `classes`; probabilities are conditional on the listed classes.

    >>> [str(share) for share in frequencies(SHAPE_CLASSES)]
    ['1/6', '1/6', '1/6', '1/9', '1/9', '1/9', '1/18', '1/18', '1/18']
    """
    kinds = len(set("".join(classes)))
    shares = [Fraction(_orders(letters), kinds ** len(letters)) for letters in classes]
    return tuple(share / sum(shares) for share in shares)


def _orders(letters: str) -> int:
    """Return the number of distinct depth orders of the objects of a class."""
    return math.factorial(len(letters)) // math.prod(math.factorial(letters.count(one)) for one in set(letters))


@dataclass(frozen=True)
class Scene:
    """Objects in depth order, bottom first, with an integer weight proportional to the probability of this order."""

    letters: str
    weight: int


def scenes(classes: Sequence[str]) -> tuple[Scene, ...]:
    """Return every depth order of every class, with integer weights proportional to `frequencies`.

    >>> [(scene.letters, scene.weight) for scene in scenes(["T", "TP"])]
    [('T', 2), ('TP', 1), ('PT', 1)]
    """
    shares = [share / _orders(letters) for letters, share in zip(classes, frequencies(classes), strict=True)]
    multiplier = math.lcm(*(share.denominator for share in shares))
    return tuple(
        Scene("".join(order), int(share * multiplier))
        for letters, share in zip(classes, shares, strict=True)
        for order in dict.fromkeys(itertools.permutations(letters))
    )
