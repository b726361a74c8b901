"""Which sites a figure shows."""

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

from thruway.errors import ConfigError
from thruway.watching.sites import Site

__all__ = ["SELECTIONS", "Choice", "choose"]

Choice = str | Iterable[str] | Callable[[Site], bool] | None


def _is_activation(site: Site) -> bool:
    return site.activation is not None


def _is_module(site: Site) -> bool:
    """The output of a module: what its code computes on the way is called after the operation, such as blocks.3.add."""
    last = site.name.rpartition(".")[2]
    return re.fullmatch(re.escape(site.operation) + r"(_\d+)?", last) is None


def _is_gate(site: Site) -> bool:
    return site.is_gate


# By what is known of the output; a gradient goes with the output that it is taken with respect to.
SELECTIONS: dict[str, Callable[[Site], bool]] = {
    "activations": _is_activation,
    "modules": _is_module,
    "gates": _is_gate,
}


def choose(sites: Sequence[Site], choice: Choice, outputs: Iterable[Site]) -> list[int]:
    """The places of the chosen sites, in their order.

    Args:
        sites: those that there are.
        choice: a key of SELECTIONS; names or patterns; a function of a Site; None for all.
        outputs: the outputs of the network, for the sites of gradients.
    Raises:
        ConfigError: if no site, or none of a name, is there.

    >>> sites = [Site(f"blocks.{i}.relu", "output", "relu", "relu") for i in range(12)]
    >>> choose(sites, "blocks.1*", sites)
    [1, 10, 11]
    """
    if choice is None:
        return list(range(len(sites)))
    if callable(choice):
        chosen = [place for place, site in enumerate(sites) if choice(site)]
        asked = "the function that came as sites"
    elif isinstance(choice, str) and choice in SELECTIONS:
        output_of = {site.name: site for site in outputs}
        chosen = [p for p, site in enumerate(sites) if SELECTIONS[choice](output_of.get(site.name, site))]
        asked = repr(choice)
    else:
        patterns = [choice] if isinstance(choice, str) else list(choice)
        place_of = {site.name: place for place, site in enumerate(sites)}
        found = {p: {place_of[p]} if p in place_of else _matching(sites, p) for p in map(str, patterns)}
        missing = [pattern for pattern, places in found.items() if not places]
        chosen = sorted(set().union(*found.values())) if not missing else []
        asked = repr(missing[0] if missing else patterns)
    if not chosen:
        names = [site.name for site in sites]
        some = ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:6])}, … {names[-1]}"
        raise ConfigError(
            f"no site for {asked} among the {len(names)} that have this quantity: {some}. "
            f"Choose {', '.join(SELECTIONS)}, names or patterns such as 'blocks.*', or a function of a Site."
        )
    return chosen


def _matching(sites: Sequence[Site], pattern: str) -> set[int]:
    return {place for place, site in enumerate(sites) if fnmatchcase(site.name, pattern)}
