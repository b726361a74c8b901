"""Recurrent Highway Networks, Zilly, Srivastava, Koutník & Schmidhuber 2017."""

from thruway.experiments.rhn2017.depth_page import STUDY as DEPTH

__all__ = ["DEPTH"]
