"""What goes into every join and what comes out, in passes that compute what the model computes."""

from collections.abc import Iterator, Mapping
from typing import Any

from thruway.dissecting.running.engine import Engine
from thruway.dissecting.running.lesioned import Lesioned
from thruway.dissecting.running.merging import JoinHook, ObservedJoin
from thruway.dissecting.tracing.arguments import as_call
from thruway.dissecting.tracing.structure import reachable_tensors
from thruway.errors import ConfigError

__all__ = ["batch_size", "checked_batches", "run_with_hooks"]


def run_with_hooks(engine: Engine, hooks: Mapping[int, JoinHook], inputs: Any) -> Any:
    """The model's output for `inputs`, with an hook at the joins of these branches.

    The pass is in evaluation mode; afterwards the model is in the mode it was in. Should it run into a
    detour and be repeated, hooks run_with_hooks it again from the start.

    Raises:
        DissectError: if the model's code takes another way with these inputs.
    """
    model = Lesioned(engine, {index: ObservedJoin(hook) for index, hook in hooks.items()}).eval()
    args, kwargs = as_call(inputs)
    return model(*args, **kwargs)


def checked_batches(batches: Any) -> Iterator[tuple[Any, Any]]:
    """Each batch as inputs and targets.

    Raises:
        ConfigError: for a batch that is no such pair.

    >>> list(checked_batches([(1, 2)]))
    [(1, 2)]
    """
    for batch in batches:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise ConfigError(
                f"a batch is a pair (inputs, targets), got {type(batch).__name__}. Inputs are a tensor, a tuple of "
                "arguments or a dict of keywords; targets may be None where nothing needs them."
            )
        yield batch[0], batch[1]


def batch_size(inputs: Any) -> int:
    """How many examples: the first size of the first tensor.

    >>> import torch
    >>> batch_size({"ids": torch.zeros(3, 7)})
    3
    """
    first = next(reachable_tensors(inputs), None)
    return int(first.shape[0]) if first is not None and first.ndim else 1
