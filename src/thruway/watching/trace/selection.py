"""Selection of the sites shown in a figure."""

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

from thruway.errors import ConfigError
from thruway.watching.sites import Site

__all__ = ["SELECTIONS", "SiteSelection", "select_sites"]

SiteSelection = str | Iterable[str] | Callable[[Site], bool] | None


def _is_activation(site: Site) -> bool:
    return site.is_activation


def _is_module(site: Site) -> bool:
    """Return True for the output of a module, unless it is a single number.

    The name of a function's output ends in the operation, as in blocks.3.add.
    """
    last = site.name.rpartition(".")[2]
    return not site.is_scalar and re.fullmatch(re.escape(site.operation) + r"(_\d+)?", last) is None


def _is_gate(site: Site) -> bool:
    return site.is_gate


# Functions of an output site. A gradient is selected if the output that it belongs to is selected.
SELECTIONS: dict[str, Callable[[Site], bool]] = {
    "activations": _is_activation,
    "modules": _is_module,
    "gates": _is_gate,
}


def select_sites(sites: Sequence[Site], selection: SiteSelection, outputs: Iterable[Site]) -> list[int]:
    """Return the indices of the selected sites, in order.

    Args:
        sites: sites to select from.
        selection: a key of SELECTIONS; names or patterns; a function of a Site; None for all sites.
        outputs: outputs of the network, for the sites of gradients.
    Raises:
        ConfigError: if no site is selected, or a name or pattern matches none.

    >>> sites = [Site(f"blocks.{i}.relu", "output", "relu", "relu") for i in range(12)]
    >>> select_sites(sites, "blocks.1*", sites)
    [1, 10, 11]
    """
    if selection is None:
        return list(range(len(sites)))
    if callable(selection):
        selected = [index for index, site in enumerate(sites) if selection(site)]
        requested = "the function passed as sites"
    elif isinstance(selection, str) and selection in SELECTIONS:
        output_of = {site.name: site for site in outputs}
        is_selected = SELECTIONS[selection]
        selected = [index for index, site in enumerate(sites) if is_selected(output_of.get(site.name, site))]
        requested = repr(selection)
    else:
        patterns = [selection] if isinstance(selection, str) else list(selection)
        index_of = {site.name: index for index, site in enumerate(sites)}
        found = {p: {index_of[p]} if p in index_of else _matching(sites, p) for p in map(str, patterns)}
        missing = [pattern for pattern, indices in found.items() if not indices]
        selected = sorted(set().union(*found.values())) if not missing else []
        requested = repr(missing[0] if missing else patterns)
    if not selected:
        names = [site.name for site in sites]
        some = ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:6])}, … {names[-1]}"
        raise ConfigError(
            f"no site for {requested} among the {len(names)} that have this quantity: {some}. "
            f"Pass one of {', '.join(SELECTIONS)}, names or patterns such as 'blocks.*', or a function of a Site."
        )
    return selected


def _matching(sites: Sequence[Site], pattern: str) -> set[int]:
    return {index for index, site in enumerate(sites) if fnmatchcase(site.name, pattern)}
