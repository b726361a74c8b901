"""Change of a model as a unified diff of its printed module tree."""

import difflib

from torch import nn

__all__ = ["tree_diff"]

_MOST_LINES = 60


def tree_diff(before: nn.Module, after: nn.Module) -> str:
    """Return the diff of two printed module trees, with one line of context; "" if they are equal.

    >>> print(tree_diff(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), nn.Sequential(nn.Linear(2, 2), nn.ReLU())))
    @@ -2,3 +2,3 @@
       (0): Linear(in_features=2, out_features=2, bias=True)
    -  (1): Tanh()
    +  (1): ReLU()
     )
    """
    lines = difflib.unified_diff(repr(before).splitlines(), repr(after).splitlines(), n=1, lineterm="")
    kept = list(lines)[2:]  # without the names of the two files
    if len(kept) > _MOST_LINES:
        kept = [*kept[:_MOST_LINES], f"... {len(kept) - _MOST_LINES} more lines"]
    return "\n".join(kept)
