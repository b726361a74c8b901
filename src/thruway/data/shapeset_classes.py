"""What may be in a picture: the kinds of object, and the classes that a few of them make.

A class is written as the letters of its objects: "TP" is a triangle and a parallelogram, whichever lies in front.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from thruway.errors import ConfigError

__all__ = ["KINDS", "SHAPE_CLASSES", "Kind", "Scene", "class_name", "frequencies", "scenes", "shape_classes"]

MOST = 6  # objects in a class


@dataclass(frozen=True)
class Kind:
    """A regular polygon, from which stretching makes every object of its kind."""

    name: str
    corners: int


# The parallelograms are the stretched squares; twenty corners are an ellipse to the eye (the authors' generator).
KINDS = {
    "T": Kind("triangle", 3),
    "P": Kind("parallelogram", 4),
    "E": Kind("ellipse", 20),
}


def shape_classes(kinds: str = "TPE", counts: Sequence[int] = (1, 2)) -> tuple[str, ...]:
    """Every class that so many objects of these kinds can make, in the order of the labels.

    Args:
        kinds: letters of `KINDS`.
        counts: the numbers of objects that a picture may have.
    Raises:
        ConfigError: if a letter or a number is not allowed.
    Source:
        The order is that of the authors' labels; beyond two objects ours, by the same rule.

    >>> " ".join(shape_classes())
    'T P E TP PE TE TT PP EE'
    >>> " ".join(shape_classes("TP", counts=[3]))
    'TTP TPP TTT PPP'
    """
    if not kinds or len(set(kinds)) != len(kinds) or not set(kinds) <= set(KINDS):
        raise ConfigError(f"kinds are different letters of {''.join(KINDS)}: got {kinds!r}.")
    if not counts or not all(1 <= count <= MOST for count in counts):
        raise ConfigError(f"counts are numbers of objects, each from 1 to {MOST}: got {list(counts)}.")
    order = list(kinds)

    def rank(found: tuple[str, ...]) -> tuple[int, int, int]:
        return len(found), -len(set(found)), order.index(found[-1]) - order.index(found[0])

    found = [mix for count in sorted(set(counts)) for mix in itertools.combinations_with_replacement(kinds, count)]
    return tuple("".join(mix) for mix in sorted(found, key=rank))


SHAPE_CLASSES = shape_classes()


def class_name(letters: str) -> str:
    """A class in words.

    >>> class_name("T"), class_name("TE"), class_name("PPE")
    ('triangle', 'triangle + ellipse', '2 parallelograms + ellipse')
    """
    counted = [(KINDS[letter].name, letters.count(letter)) for letter in dict.fromkeys(letters)]
    return " + ".join(name if count == 1 else f"{count} {name}s" for name, count in counted)


def frequencies(classes: Sequence[str]) -> tuple[Fraction, ...]:
    """How often each class is asked for: its number of objects first, then each object's kind, all equally likely.

    Kinds and numbers are those that occur in `classes`; what is not listed is left out of the count.

    >>> [str(share) for share in frequencies(SHAPE_CLASSES)]
    ['1/6', '1/6', '1/6', '1/9', '1/9', '1/9', '1/18', '1/18', '1/18']
    """
    kinds = len(set("".join(classes)))
    shares = [Fraction(_orders(letters), kinds ** len(letters)) for letters in classes]
    return tuple(share / sum(shares) for share in shares)


def _orders(letters: str) -> int:
    """In how many orders the objects of a class can lie upon each other."""
    return math.factorial(len(letters)) // math.prod(math.factorial(letters.count(one)) for one in set(letters))


@dataclass(frozen=True)
class Scene:
    """Objects in the order in which they are laid down, and how often so, as a whole number."""

    letters: str
    weight: int


def scenes(classes: Sequence[str]) -> tuple[Scene, ...]:
    """Every order of every class, with whole weights whose shares are `frequencies`.

    >>> [(scene.letters, scene.weight) for scene in scenes(["T", "TP"])]
    [('T', 2), ('TP', 1), ('PT', 1)]
    """
    shares = [share / _orders(letters) for letters, share in zip(classes, frequencies(classes), strict=True)]
    whole = math.lcm(*(share.denominator for share in shares))
    return tuple(
        Scene("".join(order), int(share * whole))
        for letters, share in zip(classes, shares, strict=True)
        for order in dict.fromkeys(itertools.permutations(letters))
    )
