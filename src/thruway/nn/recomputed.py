"""Whether a forward pass is a recomputation, as torch.utils.checkpoint makes them in the backward pass."""

import torch

from thruway.errors import ConfigError

__all__ = ["refuse_recomputation"]


def refuse_recomputation(block: str, argument: str) -> None:
    """Refuse to draw from a block's own generator while gradients are being computed.

    A checkpoint puts torch's global generators back before it computes a part of the net again. It does not know
    of others, from which the second pass would draw other coins, and the gradients would be those of another net.

    Raises:
        ConfigError: within a backward pass.

    >>> refuse_recomputation("Dropout", "generator")  # in a forward pass
    """
    if torch._C._current_graph_task_id() != -1:
        raise ConfigError(
            f"{block} draws from a generator of its own and was called in training within a backward pass, as "
            "torch.utils.checkpoint does to compute a part of the net again. It puts back torch's global generators "
            "only, so other coins would fall here than in the first pass, and the gradients would be wrong. Leave "
            f"this layer out of the checkpoint, or give it no {argument}: then torch's global one is used."
        )
