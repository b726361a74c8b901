"""Error messages for a quantity that a trace does not have, with the arguments of `watch` that would record it."""

from thruway.errors import ConfigError, unknown_name
from thruway.watching.quantities.table import QUANTITIES
from thruway.watching.sites import KINDS, Kind
from thruway.watching.trace.derived import DERIVED
from thruway.watching.trace.series import ReadableTrace

__all__ = ["find_kind", "measured_at", "why_missing"]

_OF_PARAMETERS: tuple[Kind, ...] = ("parameter", "parameter_gradient", "update")


def measured_at(trace: ReadableTrace, kind: Kind) -> list[str]:
    """Return all quantities at sites of a kind, including those of many numbers per site."""
    return [*trace.quantities(kind), *trace.array_quantities(kind)]


def find_kind(trace: ReadableTrace, quantity: str, kind: Kind | None) -> Kind:
    """Return the requested kind of sites, or by default the first kind that has the quantity.

    Raises:
        ConfigError: if the quantity was not measured at sites of that kind, or at any site.
    """
    there = [each for each in KINDS if quantity in measured_at(trace, each)]
    if kind is None and there:
        return there[0]
    if kind in there:
        return kind
    raise ConfigError(why_missing(trace, quantity, kind))


def why_missing(trace: ReadableTrace, quantity: str, kind: Kind | None) -> str:
    """Return the reason why a quantity is missing, and how to record it.

    Args:
        trace: trace that was read.
        quantity: requested quantity, which was not measured at sites of this kind.
        kind: requested kind of site; None for any kind.
    """
    if kind is not None and kind not in KINDS:
        return unknown_name("kind of site", kind, KINDS)
    if kind is not None and quantity in trace.array_quantities(kind):
        return f"{quantity} has many numbers per site: read it with trace.arrays({quantity!r})."
    known = {each: names for each in KINDS if (names := measured_at(trace, each))}
    if not known:
        return f"nothing has been recorded yet, so there is no {quantity!r}. Train inside the with block."
    if there := [each for each, names in known.items() if quantity in names]:
        return (
            f"{quantity!r} was not measured at {_words(kind or 'output')}s, but at {', '.join(map(repr, there))}. "
            "Pass one of these as kind."
        )
    if quantity in DERIVED:
        return DERIVED[quantity].why_missing(quantity, has_kind=DERIVED[quantity].kind in known)
    row = QUANTITIES.get(quantity)
    if row is not None and row.of_model is not None:
        if trace.probe is not None and quantity in trace.probe.quantities():
            return f"{quantity!r} is measured on the probe only. Read it from trace.probe."
        return (
            f"{quantity!r} is measured on a fixed batch only. Watch with probe=, such as a few examples, and "
            f"quantities=[*DEFAULT, {quantity!r}], and read it from trace.probe."
        )
    is_of_parameters = kind in _OF_PARAMETERS or (row is not None and set(row.kinds) <= set(_OF_PARAMETERS))
    if is_of_parameters and not set(known) & set(_OF_PARAMETERS):
        return f"there is no {quantity!r}, because parameters were not watched. Pass optimizer= to watch them."
    every = (
        known.get(kind, []) if kind is not None else dict.fromkeys(name for names in known.values() for name in names)
    )
    what = f"{_words(kind)} quantity" if kind is not None else "quantity"
    hint = f" To record it, watch with quantities=[*DEFAULT, {quantity!r}]." if row is not None else ""
    return unknown_name(what, quantity, every) + hint


def _words(kind: Kind) -> str:
    return kind.replace("_", " ")
