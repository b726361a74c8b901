"""Change of a model as a unified diff of its module tree, in which repeated modules are listed once."""

import difflib
from collections.abc import Iterator, Sequence

from torch import nn

__all__ = ["tree_diff", "tree_lines"]

_MOST_LINES = 60
_LONGEST_PERIOD = 6  # modules that repeat as a group, such as convolution, norm and activation
_FEWEST_REPEATS = 3


def tree_diff(before: nn.Module, after: nn.Module) -> str:
    """Return the diff of two module trees, with one line of context; "" if they are equal.

    >>> print(tree_diff(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), nn.Sequential(nn.Linear(2, 2), nn.ReLU())))
    @@ -2,2 +2,2 @@
       (0): Linear(in_features=2, out_features=2, bias=True)
    -  (1): Tanh()
    +  (1): ReLU()
    """
    lines = difflib.unified_diff(tree_lines(before), tree_lines(after), n=1, lineterm="")
    kept = list(lines)[2:]  # without the names of the two files
    if len(kept) > _MOST_LINES:
        kept = [*kept[:_MOST_LINES], f"... {len(kept) - _MOST_LINES} more lines"]
    return "\n".join(kept)


def tree_lines(model: nn.Module) -> list[str]:
    """Return the module tree as lines; children that repeat three times or more are listed once.

    >>> print("\\n".join(tree_lines(nn.Sequential(*[nn.Linear(2, 2), nn.Tanh()] * 5, nn.Linear(2, 1)))))
    Sequential
      (0, 2 .. 8): Linear(in_features=2, out_features=2, bias=True)
      (1, 3 .. 9): Tanh()
      (10): Linear(in_features=2, out_features=1, bias=True)
    """
    return list(_lines(model, type(model).__name__, ""))


def _lines(module: nn.Module, title: str, indent: str) -> Iterator[str]:
    yield f"{indent}{title}"
    children = [(name, child, repr(child)) for name, child in module._modules.items() if child is not None]
    place = 0
    while place < len(children):
        period, repeats = _repeated([text for _, _, text in children[place:]])
        for offset in range(period):
            name, child, text = children[place + offset]
            names = [children[place + offset + period * k][0] for k in range(repeats)]
            label = f"({name})" if repeats == 1 else f"({names[0]}, {names[1]} .. {names[-1]})"
            if next(child.children(), None) is None:
                yield f"{indent}  {label}: {text}"
            else:
                own = child.extra_repr()
                yield from _lines(
                    child, f"{label}: {type(child).__name__}" + (f"({own})" if own else ""), f"{indent}  "
                )
        place += period * repeats


def _repeated(texts: Sequence[str]) -> tuple[int, int]:
    """Return (size, number of repeats) of the group at the beginning that covers most; (1, 1) without one."""
    best = (1, 1)
    for period in range(1, min(_LONGEST_PERIOD, len(texts) // _FEWEST_REPEATS) + 1):
        repeats = 1
        while list(texts[period * repeats : period * (repeats + 1)]) == list(texts[:period]):
            repeats += 1
        if repeats >= _FEWEST_REPEATS and period * repeats > best[0] * best[1]:
            best = (period, repeats)
    return best
