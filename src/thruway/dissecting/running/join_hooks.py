"""Hooks on the joins of a model, and the batches they run over."""

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
    """Run the model in evaluation mode with a hook on the joins of some branches, and return its output.

    The model's own mode is restored. If the pass has to be repeated with a new tape, the hooks are called again
    from the start.

    Args:
        hooks: the hook for each index of a branch.
    Raises:
        DissectError: if the pass makes other calls than the recorded one.
    """
    model = Lesioned(engine, {index: ObservedJoin(hook) for index, hook in hooks.items()}).eval()
    args, kwargs = as_call(inputs)
    return model(*args, **kwargs)


def checked_batches(batches: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each batch as inputs and targets.

    Raises:
        ConfigError: if a batch is not a pair.

    >>> list(checked_batches([(1, 2)]))
    [(1, 2)]
    """
    for batch in batches:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise ConfigError(
                f"a batch must be a pair (inputs, targets), got {type(batch).__name__}. Inputs are a tensor, a tuple "
                "of arguments or a dict of keyword arguments; targets may be None if there is no loss."
            )
        yield batch[0], batch[1]


def batch_size(inputs: Any) -> int:
    """Return the number of examples: the size of the first dimension of the first tensor.

    >>> import torch
    >>> batch_size({"ids": torch.zeros(3, 7)})
    3
    """
    first = next(reachable_tensors(inputs), None)
    return int(first.shape[0]) if first is not None and first.ndim else 1
