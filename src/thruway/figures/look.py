"""The former names of `thruway.figures.theme`."""  # alias until experiments follow

from thruway.figures.theme import BLOCK_STYLES as BLOCK_LOOKS
from thruway.figures.theme import GREY, label
from thruway.figures.theme import OTHER_STYLES as OTHER_LOOKS

__all__ = ["BLOCK_LOOKS", "GREY", "OTHER_LOOKS", "label"]
