"""Build, watch and dissect very deep networks in PyTorch.

>>> import thruway as tw
>>> net = tw.networks.mlp("highway", depth=50, width=50, inputs=64, classes=10, gate_bias="depth", fused=True)
>>> sum(p.numel() for p in net.blocks.parameters())   # 49 layers of 5100
249900
"""

import importlib
from typing import TYPE_CHECKING, Any

from thruway.errors import ThruwayError

if TYPE_CHECKING:
    from thruway import data, dissecting, experiments, init, networks, nn, report, runs, seeding, sweep, train, watching
    from thruway.dissecting import dissect
    from thruway.watching import watch

__all__ = [
    "ThruwayError",
    "data",
    "dissect",
    "dissecting",
    "experiments",
    "init",
    "networks",
    "nn",
    "report",
    "runs",
    "seeding",
    "sweep",
    "train",
    "watch",
    "watching",
]

_CALLS = {"dissect": "dissecting", "watch": "watching"}  # calls are verbs, and the rooms they live in nouns
_ROOMS = frozenset(__all__) - {"ThruwayError", *_CALLS}


def __getattr__(name: str) -> Any:
    # A room is opened when it is entered: a script that builds a net does not wait for the charts.
    if name in _ROOMS:
        return importlib.import_module(f"thruway.{name}")
    if name in _CALLS:
        return getattr(importlib.import_module(f"thruway.{_CALLS[name]}"), name)
    raise AttributeError(f"module 'thruway' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
