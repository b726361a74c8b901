"""Which calls of a model are forward passes of its training."""

import torch

__all__ = ["is_training_pass"]


def is_training_pass() -> bool:
    """What runs now belongs to a forward pass that a backward pass may follow.

    Evaluation does not, nor the recomputation of a checkpointed block, which runs inside a backward pass, nor
    what torch.func transforms, where tensors stand for other things than numbers.
    """
    return (
        torch.is_grad_enabled()
        and torch._C._current_graph_task_id() == -1
        and torch._C._functorch.peek_interpreter_stack() is None
    )
