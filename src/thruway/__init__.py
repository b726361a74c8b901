"""Build, watch and dissect very deep networks in PyTorch.

>>> import thruway as tw
>>> net = tw.networks.mlp("highway", depth=50, width=50, inputs=64, classes=10, gate_bias="depth", fused=True)
>>> sum(p.numel() for p in net.blocks.parameters())   # 49 layers of 5100
249900
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

from thruway.errors import ThruwayError

if TYPE_CHECKING:
    from thruway import (
        data,
        diagnosing,
        dissecting,
        experiments,
        init,
        networks,
        nn,
        report,
        runs,
        seeding,
        sweep,
        train,
        watching,
    )
    from thruway.diagnosing.diagnose import diagnose
    from thruway.diagnosing.prescribing.prescribe import prescribe
    from thruway.dissecting import dissect, load_pruned, save_pruned
    from thruway.watching import watch

__all__ = [
    "ThruwayError",
    "data",
    "diagnose",
    "diagnosing",
    "dissect",
    "dissecting",
    "experiments",
    "init",
    "load_pruned",
    "networks",
    "nn",
    "prescribe",
    "report",
    "runs",
    "save_pruned",
    "seeding",
    "sweep",
    "train",
    "watch",
    "watching",
]

_FUNCTIONS = {
    "diagnose": "diagnosing",
    "dissect": "dissecting",
    "load_pruned": "dissecting",
    "save_pruned": "dissecting",
    "prescribe": "diagnosing",
    "watch": "watching",
}  # function -> subpackage that defines it
_SUBPACKAGES = frozenset(__all__) - {"ThruwayError", *_FUNCTIONS}


def __getattr__(name: str) -> Any:
    # Subpackages are imported on first use, so that a script that builds a net does not import the plotting library.
    if name in _SUBPACKAGES:
        return importlib.import_module(f"thruway.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"thruway.{_FUNCTIONS[name]}"), name)
    raise AttributeError(f"module 'thruway' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(types.ModuleType):
    """This package, in which the import of a module does not hide the function of the same name.

    `python -m thruway.watch` needs a module `thruway.watch`. The import system would set it as an attribute here.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _FUNCTIONS and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def load_ipython_extension(shell: Any) -> None:
    """Watch all later cells of a notebook: the extension `%load_ext thruway`."""
    importlib.import_module("thruway.cli.watch_notebook").load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """End the watching of a notebook: `%unload_ext thruway`."""
    importlib.import_module("thruway.cli.watch_notebook").unload(shell)
