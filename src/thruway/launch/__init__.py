"""Watching of a program that does not know of it: `thruway watch train.py`, and notebooks."""

from thruway.launch.messages import say, write_line
from thruway.launch.notebook import Notebook
from thruway.launch.options import WatchSettings
from thruway.launch.program import Program
from thruway.launch.saving import Destination, Watched
from thruway.launch.script import Script, find_module, find_script

__all__ = [
    "Destination",
    "Notebook",
    "Program",
    "Script",
    "WatchSettings",
    "Watched",
    "find_module",
    "find_script",
    "say",
    "write_line",
]
