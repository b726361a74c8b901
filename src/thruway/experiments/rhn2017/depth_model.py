"""The language model of rhn2017.depth, and its width for a given number of parameters."""

import math

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError
from thruway.init import initialize
from thruway.nn.recurrent import RecurrentHighway

__all__ = ["LanguageModel", "parameters_of", "width_for"]


class LanguageModel(nn.Module):
    """Recurrent highway network that maps characters to logits of the next character.

    Args:
        symbols: number of characters in the alphabet.
        embedding: number of features in the embedding of a character.
        width, depth, gate_bias: see `RecurrentHighway`.
        drops: dropout probabilities of input, state and output, with one mask per sequence and call.
        weights: generator of the initial weights.
        coins: generator of the dropout masks.
    """

    def __init__(
        self,
        symbols: int,
        embedding: int,
        width: int,
        depth: int,
        gate_bias: float,
        drops: tuple[float, float, float],
        weights: torch.Generator,
        coins: torch.Generator,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(torch.empty(symbols, embedding), freeze=False)  # type: ignore[no-untyped-call]
        self.recurrent = RecurrentHighway(
            embedding, width, depth, gate_bias, dropout=drops[:2], generator=weights, coins=coins
        )
        self.head = nn.utils.skip_init(nn.Linear, width, symbols)  # type: ignore[no-untyped-call]
        self.drop, self.coins = drops[2], coins
        # An embedding is looked up, not summed, so its scale does not depend on a fan.
        self.embedding.weight.data.normal_(generator=weights)
        initialize(self.head, "glorot_uniform", generator=weights)

    def forward(self, codes: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return (logits (time, batch, symbols), state after the last step) for codes (time, batch)."""
        output, state = self.recurrent(self.embedding(codes), state)
        if self.training and self.drop > 0:
            kept = torch.rand(output.shape[1:], generator=self.coins) >= self.drop
            output = output * kept.to(output) / (1 - self.drop)
        return self.head(output), state


def parameters_of(symbols: int, embedding: int, width: int, depth: int) -> int:
    """Return the number of parameters of a LanguageModel.

    >>> parameters_of(symbols=103, embedding=32, width=80, depth=1)
    29719
    """
    embeddings = symbols * embedding
    recurrent = 2 * width * (embedding + depth * (width + 1))
    return embeddings + recurrent + symbols * (width + 1)


def width_for(parameters: int, symbols: int, embedding: int, depth: int) -> int:
    """Return the width for which the number of parameters is closest to `parameters`.

    Raises:
        ConfigError: if no width comes within 5 % of it.

    >>> [width_for(30_000, 103, 32, depth) for depth in (1, 2, 10)]
    [81, 63, 32]
    """
    # The positive root of parameters_of(width) = parameters, a parabola in the width.
    linear = 2 * (embedding + depth) + symbols
    constant = symbols * (embedding + 1) - parameters
    root = (-linear + math.sqrt(max(0.0, linear**2 - 8 * depth * constant))) / (4 * depth)
    nearest = min(
        (max(1, math.floor(root)), math.floor(root) + 1),
        key=lambda width: abs(parameters_of(symbols, embedding, max(1, width), depth) - parameters),
    )
    found = parameters_of(symbols, embedding, nearest, depth)
    if abs(found - parameters) > parameters / 20:
        raise ConfigError(
            f"parameters: got {parameters}, but the nearest network of depth {depth} with an alphabet of {symbols} "
            f"has {found}. Use more parameters, or a smaller embedding."
        )
    return nearest
