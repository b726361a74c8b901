"""Small modules and a table of layers for the tests of initialisation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thruway.init import Part


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class FusedHighway(nn.Module):
    """A highway layer with H and T in one weight."""

    def __init__(self, width: int, gate_bias: float = -2.0, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2 * width, width), torch.nan))
        self.bias = nn.Parameter(torch.full((2 * width,), torch.nan))
        self.gate_bias = gate_bias
        self.activation = activation or nn.Tanh()

    def init_parts(self) -> Iterator[Part]:
        (h, t), (b_h, b_t) = self.weight.chunk(2), self.bias.chunk(2)
        yield Part("transform", h, b_h, 0.0, "tanh")
        yield Part("transform_gate", t, b_t, self.gate_bias, "sigmoid")

    def forward(self, x: Tensor) -> Tensor:
        h, t = nn.functional.linear(x, self.weight, self.bias).split(self.weight.shape[1], dim=-1)
        return torch.lerp(x, self.activation(h.clone()), torch.sigmoid(t))


class FusedStack(nn.Module):
    """Several highway layers in one parameter."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((depth, 2 * width, width), torch.nan))
        self.bias = nn.Parameter(torch.full((depth, 2 * width), torch.nan))

    def init_parts(self) -> Iterator[Part]:
        for layer, (weight, bias) in enumerate(zip(self.weight, self.bias, strict=True)):
            (h, t), (b_h, b_t) = weight.chunk(2), bias.chunk(2)
            yield Part(f"{layer}.transform", h, b_h, 0.0, "tanh")
            yield Part(f"{layer}.transform_gate", t, b_t, -2.0, "sigmoid")


class Listed(nn.Module):
    """A module with one weight and the parts that a test chooses."""

    def __init__(self, parts: Callable[[Tensor], list[Part]]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 4))
        self._parts = parts

    def init_parts(self) -> Iterator[Part]:
        return iter(self._parts(self.weight))


def _empty_linear() -> nn.Module:
    layer = nn.Linear(3, 3, bias=False)
    layer.weight = nn.Parameter(torch.empty(0, 3))  # torch's own constructor warns
    return layer


@dataclass(frozen=True)
class Kind:
    name: str
    build: Callable[[], nn.Module]


KINDS = (
    Kind("linear", lambda: nn.Linear(4, 6)),
    Kind("linear_without_bias", lambda: nn.Linear(4, 6, bias=False)),
    Kind("bilinear", lambda: nn.Bilinear(2, 3, 4)),
    Kind("conv1d", lambda: nn.Conv1d(4, 6, 3)),
    Kind("conv2d_grouped", lambda: nn.Conv2d(4, 6, (3, 2), groups=2)),
    Kind("conv3d", lambda: nn.Conv3d(2, 4, 2)),
    Kind("transposed1d", lambda: nn.ConvTranspose1d(4, 6, 3)),
    Kind("transposed2d_grouped", lambda: nn.ConvTranspose2d(4, 6, 3, groups=2)),
    Kind("embedding", lambda: nn.Embedding(5, 4, padding_idx=1)),
    Kind("embedding_bag", lambda: nn.EmbeddingBag(5, 4)),
    Kind("rnn", lambda: nn.RNN(3, 4, num_layers=2, bidirectional=True)),
    Kind("lstm", lambda: nn.LSTM(3, 4, proj_size=2)),
    Kind("gru", lambda: nn.GRU(3, 4, bias=False)),
    Kind("rnn_cell", lambda: nn.RNNCell(3, 4, nonlinearity="relu")),
    Kind("lstm_cell", lambda: nn.LSTMCell(3, 4)),
    Kind("gru_cell", lambda: nn.GRUCell(3, 4)),
    Kind("attention", lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True)),
    Kind("attention_of_other_widths", lambda: nn.MultiheadAttention(4, 2, kdim=3, vdim=5)),
    Kind("transformer_layer", lambda: nn.TransformerEncoderLayer(4, 2, 8)),
    Kind("batch_norm", lambda: nn.BatchNorm2d(4)),
    Kind("batch_norm_without_weights", lambda: nn.BatchNorm2d(4, affine=False)),
    Kind("instance_norm", lambda: nn.InstanceNorm1d(4, affine=True)),
    Kind("layer_norm", lambda: nn.LayerNorm(4)),
    Kind("group_norm", lambda: nn.GroupNorm(2, 4)),
    Kind("rms_norm", lambda: nn.RMSNorm(4)),
    Kind("prelu", nn.PReLU),
    Kind("fused_highway", lambda: FusedHighway(4)),
    Kind("fused_stack", lambda: FusedStack(4, 3)),
    Kind("empty_linear", _empty_linear),
)
