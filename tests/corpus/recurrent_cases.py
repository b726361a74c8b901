"""Cases of recurrent networks, faulty and healthy."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.corpus.case import Batch, Case, Draw
from tests.corpus.data import Data, first_token, majority, rows_of_digits, text
from tests.corpus.evidence import all_of
from tests.corpus.loops import clipped, cross_entropy, no_zero_grad, token_loss
from tests.corpus.mlp_cases import GROWN, SHRUNK
from tests.corpus.optimizers import adam, sgd
from tests.corpus.proofs import (
    accumulates,
    changes,
    dead,
    fault_costs,
    first_update,
    gradient_ratio,
    learns,
    non_finite,
    output_ratio,
    share_of_values,
    steps_raise_the_loss,
    stuck,
    unchanged,
)

LN4 = 1.3863


class Unrolled(nn.Module):
    """A cell that is called for every time step, and a head for the last state."""

    def __init__(self, cell: nn.Module, width: int, classes: int):
        super().__init__()
        self.cell, self.width = cell, width
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.width)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return self.head(h)


class GatedCell(nn.Module):
    """h' = (1 - z)·h + z·tanh(W x + U h) with z = sigmoid(V x + bias): a minimal gated unit."""

    def __init__(self, inputs: int, width: int, bias: float):
        super().__init__()
        self.candidate = nn.Linear(inputs + width, width)
        self.gate = nn.Linear(inputs, width)
        nn.init.constant_(self.gate.bias, bias)
        self.gate.weight.data.mul_(0.5)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        z = torch.sigmoid(self.gate(x))
        return (1 - z) * h + z * torch.tanh(self.candidate(torch.cat([x, h], 1)))


class LSTMCell(nn.Module):
    """An LSTM cell written out, with named gates. State: output and memory side by side."""

    def __init__(self, inputs: int, width: int, biases: tuple[float, float, float]):
        super().__init__()
        self.i, self.f, self.o, self.c = (nn.Linear(inputs + width, width) for _ in range(4))
        for gate, bias in zip((self.i, self.f, self.o), biases, strict=True):
            nn.init.constant_(gate.bias, bias)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        h, c = state.chunk(2, 1)
        xh = torch.cat([x, h], 1)
        i, f, o = torch.sigmoid(self.i(xh)), torch.sigmoid(self.f(xh)), torch.sigmoid(self.o(xh))
        c = f * c + i * torch.tanh(self.c(xh))
        return torch.cat([o * torch.tanh(c), c], 1)


class LastState(nn.Module):
    """A recurrent layer of PyTorch and a head for its last output."""

    def __init__(self, layer: nn.Module, width: int, classes: int):
        super().__init__()
        self.rnn = layer
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class MeanState(nn.Module):
    """The mean state over the marked time steps: 0 / 0 for an empty sequence."""

    def __init__(self, width: int):
        super().__init__()
        self.rnn = nn.GRU(8, width, batch_first=True)
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        mask = (x.abs().sum(2) > 0).to(x.dtype)[..., None]
        return self.head((self.rnn(x)[0] * mask).sum(1) / mask.sum(1))


class LanguageModel(nn.Module):
    """Embedding, LSTM, and a decoder for every position."""

    def __init__(self, tokens: int, width: int, **options):
        super().__init__()
        self.embedding = nn.Embedding(tokens, width, **options)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.decoder = nn.Linear(width, tokens)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.lstm(self.embedding(x))[0])


def rnn_cell(scale: float, activation: str = "tanh", width: int = 24, classes: int = 4) -> Callable[[Draw], nn.Module]:
    """Return a builder of RNNs whose recurrent weights are `scale` times an orthogonal matrix."""

    def build(draw: Draw) -> nn.Module:
        cell = nn.RNNCell(8, width, nonlinearity=activation)
        nn.init.orthogonal_(cell.weight_hh, scale)
        return Unrolled(cell, width, classes)

    return build


def gated(bias: float) -> Callable[[Draw], nn.Module]:
    return lambda d: (w := d.integer("width", 20, 28)) and Unrolled(GatedCell(8, w, bias), w, 4)


def lstm(*biases: float) -> Callable[[Draw], nn.Module]:
    """Return a builder of LSTMs with biases of the input, forget and output gate."""
    return lambda d: (w := d.integer("width", 16, 24)) and Unrolled(LSTMCell(8, w, biases), 2 * w, 4)


def layer(kind: type[nn.Module], inputs: int = 8, classes: int = 4, **options) -> Callable[[Draw], nn.Module]:
    def build(draw: Draw) -> nn.Module:
        width = draw.integer("width", 24, 32)
        directions = 2 if options.get("bidirectional") else 1
        return LastState(kind(inputs, width, batch_first=True, **options), directions * width, classes)

    return build


def large_relu_rnn(draw: Draw) -> nn.Module:
    net = layer(nn.RNN, nonlinearity="relu")(draw)
    nn.init.normal_(net.rnn.weight_hh_l0, std=0.55)
    return net


class Truncated(nn.Module):
    """A GRU whose output is detached before the head, as with a state that is kept between batches."""

    def __init__(self, width: int):
        super().__init__()
        self.gru = nn.GRU(8, width, batch_first=True)
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0][:, -1].detach())


def empty_at(step: int, data: Data) -> Data:
    """Put an empty sequence into one batch."""

    def made(draw: Draw) -> list[Batch]:
        batches = data(draw)
        x = batches[step][0].clone()
        x[7] = 0.0
        batches[step] = (x, batches[step][1])
        return batches

    return made


def frozen_embedding(draw: Draw) -> nn.Module:
    net = LanguageModel(24, draw.integer("width", 24, 32))
    net.embedding.weight.requires_grad_(False)
    return net


def dead_rnn(draw: Draw) -> nn.Module:
    """A ReLU RNN whose input layer has been dead from the start."""
    net = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), layer(nn.GRU, 24)(draw))
    nn.init.constant_(net[0].bias, -20.0)
    return net


EASY = majority(40)
MEMORY = first_token(50, length=24)
TEXT = text(40)

CASES = [
    # --- faulty
    Case(
        "rnn_forgets_through_time",
        "recurrent",
        rnn_cell(0.4),
        first_token(50, length=24),
        cross_entropy,
        sgd(0.3, 0.9),
        symptoms=("vanishing_gradient", "poor_init"),
        also=SHRUNK,
        sites=("cell*",),
        cure={"build": rnn_cell(1.0), "optimizer": adam(0.003), "loop": clipped(1.0)},
        proof=all_of(gradient_ratio(below=1e-5, sites="cell*"), stuck(chance=LN4), fault_costs()),
    ),
    Case(
        "rnn_sigmoid_like_decay",
        "recurrent",
        rnn_cell(0.25, width=32),
        first_token(40, length=16),
        cross_entropy,
        adam(0.003),
        symptoms=("vanishing_gradient", "poor_init"),
        also=SHRUNK,
        sites=("cell*",),
        cure={"build": rnn_cell(1.0, width=32), "loop": clipped(1.0)},
        proof=all_of(gradient_ratio(below=1e-5, sites="cell*"), stuck(chance=LN4), fault_costs()),
    ),
    Case(
        "rnn_relu_grows_through_time",
        "recurrent",
        rnn_cell(2.2, "relu"),
        majority(40, length=24),
        cross_entropy,
        sgd(0.01),
        symptoms=("exploding_gradient", "exploding_activation", "poor_init"),
        also=GROWN,
        sites=("cell*",),
        cure={"build": rnn_cell(0.9, "relu"), "optimizer": adam(0.01)},
        proof=all_of(gradient_ratio(above=1e2, sites="cell*"), output_ratio(above=1e2, sites="cell*"), fault_costs()),
    ),
    Case(
        "rnn_layer_grows_through_time",
        "recurrent",
        large_relu_rnn,
        majority(40, length=24),
        cross_entropy,
        sgd(0.01),
        symptoms=("exploding_gradient", "exploding_activation", "poor_init"),
        also=GROWN | {"unscaled_input"},
        cure={"build": layer(nn.RNN, nonlinearity="relu"), "optimizer": adam(0.01)},
        proof=fault_costs(),
    ),
    Case(
        "gru_gates_shut",
        "recurrent",
        gated(-14.0),
        majority(40),
        cross_entropy,
        sgd(0.3, 0.9),
        symptoms=("gates_shut",),
        also=SHRUNK,
        sites=("cell*",),
        cure={"build": gated(-1.0)},
        proof=all_of(
            share_of_values("cell.gate*", lambda z: z.sigmoid() < 1e-3, above=0.99, step=20),
            stuck(chance=LN4),
            fault_costs(),
        ),
    ),
    Case(
        "gru_gates_open",
        "recurrent",
        gated(9.0),
        MEMORY,
        cross_entropy,
        adam(0.003),
        symptoms=("gates_open", "gate_bias_not_negative"),
        also=SHRUNK,
        sites=("cell*",),
        cure={"build": gated(-3.0), "optimizer": adam(0.02)},
        proof=all_of(
            share_of_values("cell.gate*", lambda z: z.sigmoid() > 0.99, above=0.99), stuck(chance=LN4), fault_costs()
        ),
    ),
    Case(
        "lstm_input_gate_shut",
        "recurrent",
        lstm(-14.0, 1.0, 0.0),
        EASY,
        cross_entropy,
        sgd(0.3, 0.9),
        symptoms=("gates_shut",),
        also=SHRUNK,
        sites=("cell*",),
        cure={"build": lstm(0.0, 1.0, 0.0)},
        proof=all_of(
            share_of_values("cell.i*", lambda z: z.sigmoid() < 1e-3, above=0.99), stuck(chance=LN4), fault_costs()
        ),
    ),
    Case(
        "lstm_too_fast",
        "recurrent",
        layer(nn.LSTM),
        EASY,
        cross_entropy,
        adam(1.0),
        symptoms=("lr_too_high",),
        onset=(0, 3),
        also=GROWN | SHRUNK | {"gates_shut", "gates_open"},
        cure={"optimizer": adam(0.01)},
        proof=all_of(first_update(above=0.5), steps_raise_the_loss(1.0, 1), fault_costs()),
    ),
    Case(
        "lstm_too_slow",
        "recurrent",
        layer(nn.LSTM),
        EASY,
        cross_entropy,
        sgd(1e-4),
        symptoms=("lr_too_low",),
        onset=(0, 20),
        cure={"optimizer": adam(0.02)},
        proof=all_of(stuck(0.12), fault_costs()),
    ),
    Case(
        "lstm_no_zero_grad",
        "recurrent",
        layer(nn.LSTM),
        EASY,
        cross_entropy,
        adam(0.005),
        loop=no_zero_grad,
        symptoms=("gradients_accumulate",),
        also=GROWN,
        onset=(1, 1),
        proof=accumulates("head"),
    ),
    Case(
        "gru_forgotten",
        "recurrent",
        layer(nn.GRU),
        EASY,
        cross_entropy,
        adam(0.01, part=lambda m: m.head),
        symptoms=("frozen_parameters",),
        sites=("rnn*",),
        proof=all_of(unchanged("rnn.*"), changes("head.*")),
    ),
    Case(
        "gru_detached_state",
        "recurrent",
        lambda d: Truncated(d.integer("width", 24, 32)),
        EASY,
        cross_entropy,
        adam(0.01),
        symptoms=("frozen_parameters",),
        sites=("gru*",),
        proof=all_of(unchanged("gru.*"), changes("head.*")),
    ),
    Case(
        "gru_empty_sequence",
        "recurrent",
        lambda d: MeanState(d.integer("width", 24, 32)),
        empty_at(17, EASY),
        cross_entropy,
        adam(0.01),
        symptoms=("nan_or_inf",),
        also=GROWN,
        onset=(17, 17),
        proof=non_finite(17),
    ),
    Case(
        "gru_after_a_dead_layer",
        "recurrent",
        dead_rnn,
        EASY,
        cross_entropy,
        adam(0.003),
        symptoms=("dead_units", "dying_relu"),
        also=SHRUNK,
        sites=("0*", "1*"),
        proof=all_of(dead("1", share=1.0), stuck(chance=LN4)),
    ),
    Case(
        "lstm_text_too_fast",
        "recurrent",
        lambda d: LanguageModel(24, d.integer("width", 24, 32)),
        TEXT,
        token_loss,
        sgd(300.0),
        symptoms=("lr_too_high",),
        onset=(0, 3),
        also=GROWN | SHRUNK | {"exploding_activation", "exploding_gradient", "gates_shut", "gates_open"},
        cure={"optimizer": sgd(3.0)},
        proof=all_of(first_update(above=0.5), steps_raise_the_loss(0.5, 4), fault_costs()),
    ),
    # --- healthy
    Case(
        "lstm_majority",
        "recurrent",
        layer(nn.LSTM),
        EASY,
        cross_entropy,
        adam(0.02),
        tempting="gates between 0 and 1",
        proof=learns(0.4),
    ),
    Case(
        "lstm_forget_gate_near_1",
        "recurrent",
        lstm(0.0, 4.0, 0.0),
        first_token(60, length=16),
        cross_entropy,
        adam(0.02),
        tempting="forget gates are above 0.95",
        proof=all_of(share_of_values("cell.f*", lambda z: z.sigmoid() > 0.95, above=0.8), learns(0.4)),
    ),
    Case(
        "gru_gate_that_carries",
        "recurrent",
        gated(-3.0),
        first_token(60, length=16),
        cross_entropy,
        adam(0.02),
        tempting="update gates are below 0.1",
        proof=learns(0.3),
    ),
    Case(
        "gru_rows_of_digits",
        "recurrent",
        layer(nn.GRU, 8, 10),
        rows_of_digits(60),
        cross_entropy,
        adam(0.02),
        tempting="only the last state is used",
        proof=learns(0.4),
    ),
    Case(
        "rnn_tanh_short",
        "recurrent",
        rnn_cell(1.0),
        EASY,
        cross_entropy,
        sgd(0.1, 0.9),
        loop=clipped(1.0),
        tempting="the gradient is smaller at early times",
        proof=learns(0.4),
    ),
    Case(
        "lstm_clipped",
        "recurrent",
        layer(nn.LSTM),
        majority(40, length=20),
        cross_entropy,
        sgd(2.0),
        loop=clipped(0.25),
        tempting="gradients are clipped at every step, at a rate of 2",
        proof=learns(0.3),
    ),
    Case(
        "lstm_bidirectional_two_layers",
        "recurrent",
        layer(nn.LSTM, num_layers=2, bidirectional=True),
        EASY,
        cross_entropy,
        adam(0.01),
        tempting="the backward direction has read one element of the output that is used",
        proof=learns(0.3),
    ),
    Case(
        "lstm_text_with_unseen_tokens",
        "recurrent",
        lambda d: LanguageModel(60, d.integer("width", 24, 32)),
        text(60, tokens=60, used=20),
        token_loss,
        adam(0.02),
        tempting="two thirds of the embedding have no gradient",
        proof=learns(0.3),
    ),
    Case(
        "lstm_text_padding_row",
        "recurrent",
        lambda d: LanguageModel(25, d.integer("width", 24, 32), padding_idx=24),
        TEXT,
        token_loss,
        adam(0.02),
        tempting="one row of the embedding is 0 and stays 0",
        proof=learns(0.2),
    ),
    Case(
        "lstm_text_frozen_embedding",
        "recurrent",
        frozen_embedding,
        TEXT,
        token_loss,
        adam(0.02, trainable=True),
        tempting="the embedding is frozen on purpose",
        proof=all_of(unchanged("embedding.weight"), learns(0.2)),
    ),
]
