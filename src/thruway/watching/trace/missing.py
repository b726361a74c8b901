"""What to say of a quantity that a trace has not got: what there is, and what to pass to `watch`."""

from typing import TYPE_CHECKING

from thruway.errors import unknown_name
from thruway.watching.quantities.table import QUANTITIES
from thruway.watching.sites import KINDS, Kind
from thruway.watching.trace.following import FOLLOWING

if TYPE_CHECKING:
    from thruway.watching.trace.trace import Trace

__all__ = ["measured_at", "why_missing"]

_OF_PARAMETERS: tuple[Kind, ...] = ("parameter", "parameter_gradient", "update")


def measured_at(trace: "Trace", kind: Kind) -> list[str]:
    """Every quantity at sites of a kind, those of many numbers too."""
    return [*trace.quantities(kind), *trace.array_quantities(kind)]


def why_missing(trace: "Trace", quantity: str, kind: Kind | None) -> str:
    """The reason, and the way to get it.

    Args:
        quantity: what was asked for, and was not measured at sites of this kind.
        kind: None, if it was asked for at any.
    """
    if kind is not None and kind not in KINDS:
        return unknown_name("kind of site", kind, KINDS)
    known = {each: names for each in KINDS if (names := measured_at(trace, each))}
    if not known:
        return f"nothing was watched yet, so there is no {quantity!r} to show. Train inside the with block."
    if there := [each for each, names in known.items() if quantity in names]:
        return (
            f"{quantity!r} was not measured at {_words(kind or 'output')}s, but at {', '.join(map(repr, there))}. "
            "Pass one of these as kind."
        )
    if quantity in FOLLOWING:
        return FOLLOWING[quantity].why_missing(quantity, has_kind=FOLLOWING[quantity].kind in known)
    row = QUANTITIES.get(quantity)
    if row is not None and row.of_model is not None:
        if trace.probe is not None and quantity in trace.probe.quantities():
            return f"{quantity!r} is taken of the probe alone. Ask trace.probe for it."
        return (
            f"{quantity!r} is taken of a fixed batch, where one was given. Watch with probe=, such as a few examples, "
            f"and quantities=[*DEFAULT, {quantity!r}], then ask trace.probe for it."
        )
    is_of_parameters = kind in _OF_PARAMETERS or (row is not None and set(row.kinds) <= set(_OF_PARAMETERS))
    if is_of_parameters and not set(known) & set(_OF_PARAMETERS):
        return f"there is no {quantity!r}, as no parameter was watched. Pass optimizer= to watch them too."
    every = (
        known.get(kind, []) if kind is not None else dict.fromkeys(name for names in known.values() for name in names)
    )
    what = f"{_words(kind)} quantity" if kind is not None else "quantity"
    hint = f" QUANTITIES has it: watch with quantities=[*DEFAULT, {quantity!r}]." if row is not None else ""
    return unknown_name(what, quantity, every) + hint


def _words(kind: Kind) -> str:
    return kind.replace("_", " ")
