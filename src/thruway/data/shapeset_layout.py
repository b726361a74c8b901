"""Which objects a picture holds and where they lie, for many pictures at once.

Each picture walks through the numbers of its own key, so it does not matter what else is in the batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from thruway.data.shapeset_classes import KINDS, Scene, scenes
from thruway.data.shapeset_outline import TURNS, outline, placed, spans
from thruway.data.shapeset_random import below, next_keys, units
from thruway.errors import ConfigError

__all__ = ["TRIES", "Layout", "Rules", "layout", "object_slot", "picture_slot"]

TRIES = 50  # places tried for an object before it is left out (the authors' `rejectionmax`)
_STARTS = 50  # for a picture that left an object out and now is of no class that was asked for
_PAGE = 4  # numbers that a picture, an object or a place may use; a place uses them all
_AHEAD = 128  # places looked at in one go: where one more costs as much as the calls


def picture_slot(what: int) -> int:
    """Where a picture's own numbers stand: 0 the scene, 1 whether dark and light are swapped, 2 the background."""
    return what


def object_slot(order: int, what: int, tried: int = -1) -> int:
    """Where an object's numbers stand: 0 its skew, 1 its turn, 2 its grey.

    With `tried`, those of a place it tries: 0 and 1 the sides, 2 and 3 how far across and down.
    """
    return _PAGE * (1 + order * (TRIES + 1) + 1 + tried) + what


@dataclass(frozen=True)
class Rules:
    """What a layout hangs on, beside the keys."""

    size: int
    classes: tuple[str, ...]
    scale: tuple[float, float]
    overlap: float
    samples: int

    @property
    def most(self) -> int:
        """The largest number of objects in a picture."""
        return max(map(len, self.classes))


@dataclass(frozen=True)
class Layout:
    """n pictures with room for `most` objects each, the first at the bottom."""

    keys: Tensor  # int64, (n,): the greys are drawn from the same ones
    labels: Tensor  # int64, (n,): positions in the classes, -1 where what is left has no class
    spans: Tensor  # int16, (2, most, n, rows): see `spans`; empty where there is no such object
    areas: Tensor  # int64, (most, n), in sample points
    hidden: Tensor  # int64, (most, n): points of each object under later ones, counted once for each of those


def layout(rules: Rules, keys: Tensor) -> Layout:
    """Lay out one picture for each key.

    Raises:
        ConfigError: if the objects of a picture find no place, however often it is begun afresh.
    """
    made = _laid(rules, keys)
    for _ in range(_STARTS):
        again = (made.labels < 0).nonzero()[:, 0]
        if not len(again):
            return made
        fresh = _laid(rules, next_keys(made.keys[again]))
        made.keys[again], made.labels[again] = fresh.keys, fresh.labels
        made.spans[:, :, again] = fresh.spans
        made.areas[:, again], made.hidden[:, again] = fresh.areas, fresh.hidden
    raise ConfigError(
        f"objects of scale {rules.scale[0]} to {rules.scale[1]} find no place where they cover at most "
        f"{rules.overlap:g} of each other in pictures of {rules.size} x {rules.size}. Allow more overlap, or make the "
        "objects smaller or fewer."
    )


def _laid(rules: Rules, keys: Tensor) -> Layout:
    n, most, device = len(keys), rules.most, keys.device
    table = scenes(rules.classes)
    ends = torch.tensor([scene.weight for scene in table], device=device).cumsum(0)
    total = sum(scene.weight for scene in table)
    drawn = torch.searchsorted(ends, below(keys, picture_slot(0), total), right=True)
    wanted = torch.tensor([_kinds(scene, most) for scene in table], device=device)[drawn].T
    made = Layout(
        keys.clone(),
        drawn,
        torch.zeros(2, most, n, rules.size * rules.samples, dtype=torch.int16, device=device),
        torch.zeros(most, n, dtype=torch.int64, device=device),
        torch.zeros(most, n, dtype=torch.int64, device=device),
    )
    for order in range(most):
        for number, kind in enumerate(KINDS.values()):
            who = wanted[order] == number
            # Once an object found no place, those that were to lie on it are left out too.
            if order:
                who &= made.areas[order - 1] > 0
            _lay(rules, made, order, kind.corners, who.nonzero()[:, 0])
    kept = (made.areas > 0).sum(0)
    labels = torch.tensor([_labels(scene, rules.classes, most) for scene in table], device=device)
    made.labels.copy_(labels[drawn, kept])
    return made


def _kinds(scene: Scene, most: int) -> list[int]:
    """The rows of `KINDS` in the order in which they are laid down, then -1."""
    rows = list(KINDS)
    return [rows.index(letter) for letter in scene.letters] + [-1] * (most - len(scene.letters))


def _labels(scene: Scene, classes: tuple[str, ...], most: int) -> list[int]:
    """The label of what is seen when only the first 0, 1, ... objects were laid down; -1 if it is none."""
    known = {"".join(sorted(letters)): label for label, letters in enumerate(classes)}
    return [known.get("".join(sorted(scene.letters[:kept])), -1) for kept in range(most + 1)]


def _lay(rules: Rules, made: Layout, order: int, corners: int, who: Tensor) -> None:
    """Find a place for object number `order` of the pictures `who`; fills in `made` where there is one."""
    keys = made.keys[who]
    # Turning by half a corner either way gives every triangle and every parallelogram once.
    half = TURNS // (2 * corners)
    skew = below(keys, object_slot(order, 0), 2 * half + 1) - half
    turn = below(keys, object_slot(order, 1), TURNS)
    tried = 0
    while len(who) and tried < TRIES:
        # Most objects fit at once. For the few that do not, several places are looked at in one go.
        ahead = 1 if tried == 0 else min(TRIES - tried, 1 + _AHEAD // len(who))
        places = units(keys, object_slot(order, 0, tried), _PAGE * ahead).view(ahead, _PAGE, len(who))
        found = _object_spans(rules, corners, skew, turn, places)
        area = (found[1] - found[0]).sum(-1)
        under = made.spans[:, :order, None, who]
        common = (torch.minimum(under[1], found[1]) - torch.maximum(under[0], found[0])).clamp_(min=0).sum(-1)
        hidden = made.hidden[:order, None, who] + common
        allowed = made.areas[:order, None, who].double() * rules.overlap
        fits = (area > 0) & (hidden <= allowed).all(0)
        has_place = fits.any(0)
        mine = has_place.nonzero()[:, 0]
        there, first = who[mine], fits.int().argmax(0)[mine]
        made.spans[:, order, there] = found[:, first, mine]
        made.areas[order, there] = area[first, mine]
        made.hidden[:order, there] = hidden[:, first, mine]
        rest = (~has_place).nonzero()[:, 0]
        who, keys, skew, turn = who[rest], keys[rest], skew[rest], turn[rest]
        tried += ahead


def _object_spans(rules: Rules, corners: int, skew: Tensor, turn: Tensor, places: Tensor) -> Tensor:
    """The spans of m objects at each of several places: int16, (2, places, m, rows)."""
    ahead, _, m = places.shape
    low, high = rules.scale[0] * rules.size, rules.scale[1] * rules.size
    one, other, across, down = places.transpose(0, 1).reshape(_PAGE, ahead * m)
    one, other = one * (high - low) + low, other * (high - low) + low
    wide, narrow = torch.maximum(one, other), torch.minimum(one, other)
    shape = outline(corners, skew.repeat(ahead), turn.repeat(ahead), wide, narrow)
    return spans(placed(shape, rules.size, across, down), rules.size, rules.samples).view(2, ahead, m, -1)
