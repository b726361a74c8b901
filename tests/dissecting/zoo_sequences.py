"""Small implementations of vector and sequence networks from papers; the table of the zoo names them."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

WIDTH = 6


def vectors():
    return torch.randn(3, WIDTH)


def sequences():
    return torch.randn(2, 5, WIDTH)


def perceptron(width=WIDTH, hidden=8):
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class CarryGate(nn.Module):
    """Highway layer of the character models of language: one map for both, and the gate is what carries"""

    def __init__(self):
        super().__init__()
        self.both = nn.Linear(WIDTH, 2 * WIDTH)

    def forward(self, x):
        h, carry = self.both(x).chunk(2, -1)
        carry = torch.sigmoid(carry)
        return carry * x + (1 - carry) * F.relu(h)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 3)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class Gru(nn.Module):
    """Gate of the gated transformer: y = (1 - z)·x + z·h, h and z of stream and branch"""

    def __init__(self):
        super().__init__()
        self.of_branch = nn.Linear(WIDTH, 3 * WIDTH)
        self.of_stream, self.reset_stream = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x, y):
        r, z, h = self.of_branch(y).chunk(3, -1)
        r2, z2 = self.of_stream(x).chunk(2, -1)
        r, z = torch.sigmoid(r + r2), torch.sigmoid(z + z2)
        return (1 - z) * x + z * torch.tanh(h + self.reset_stream(r * x))


class GatedTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.attention, self.gate1 = nn.LayerNorm(WIDTH), Attention(), Gru()
        self.norm2, self.feed, self.gate2 = nn.LayerNorm(WIDTH), perceptron(), Gru()

    def forward(self, x):
        x = self.gate1(x, self.attention(self.norm1(x)))
        return self.gate2(x, self.feed(self.norm2(x)))


class Universal(nn.Module):
    """One layer over and over, told each time how often"""

    def __init__(self):
        super().__init__()
        self.norm1, self.attention, self.norm2, self.feed = (
            nn.LayerNorm(WIDTH),
            Attention(),
            nn.LayerNorm(WIDTH),
            perceptron(),
        )
        self.times = nn.Embedding(3, WIDTH)

    def forward(self, x):
        for time in range(3):
            x = x + self.times(torch.tensor(time))
            x = self.norm1(x + self.attention(x))
            x = self.norm2(x + self.feed(x))
        return x


class Experts(nn.Module):
    """All experts, weighed by one softmax: h·e(x) + g·e'(x) is no blend"""

    def __init__(self):
        super().__init__()
        self.norm, self.router = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2)
        self.first, self.second = perceptron(), perceptron()

    def forward(self, x):
        n = self.norm(x)
        one, two = self.router(n).softmax(-1).split(1, -1)
        return x + self.mixed(one * self.first(n) + two * self.second(n))

    def mixed(self, y):
        return y


class Routed(nn.Module):
    """Each token to its best expert"""

    def __init__(self):
        super().__init__()
        self.router, self.experts = nn.Linear(WIDTH, 2), nn.ModuleList(perceptron() for _ in range(2))
        self.after = nn.Identity()

    def forward(self, x):
        flat = x.reshape(-1, WIDTH)
        score, best = self.router(flat).softmax(-1).max(-1)
        y = torch.zeros_like(flat)
        for place, expert in enumerate(self.experts):
            chosen = best == place
            y[chosen] = score[chosen, None] * expert(flat[chosen])
        return x + self.after(y.view_as(x))


class Mixer(nn.Module):
    """Positions mixed, then channels"""

    def __init__(self):
        super().__init__()
        self.norm1, self.positions = nn.LayerNorm(WIDTH), perceptron(5)
        self.norm2, self.channels = nn.LayerNorm(WIDTH), perceptron()

    def forward(self, x):
        x = x + self.positions(self.norm1(x).mT).mT
        return x + self.channels(self.norm2(x))


class SpatialGate(nn.Module):
    """gMLP: one half weighs the other, after a mix of positions that starts at one"""

    def __init__(self):
        super().__init__()
        self.norm, self.enter, self.leave = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 8), nn.Linear(4, WIDTH)
        self.inner, self.positions = nn.LayerNorm(4), nn.Conv1d(5, 5, 1)

    def forward(self, x):
        u, v = F.gelu(self.enter(self.norm(x))).chunk(2, -1)
        return x + self.leave(u * self.positions(self.inner(v)))


class WaveNet(nn.Module):
    """A residual stream, and a sum of what every layer says, which is the output"""

    def __init__(self, depth=3):
        super().__init__()
        self.wide = nn.ModuleList(nn.Conv1d(WIDTH, 8, 2, dilation=2**n) for n in range(depth))
        self.onward = nn.ModuleList(nn.Conv1d(4, WIDTH, 1) for _ in range(depth - 1))
        self.heads = nn.ModuleList(nn.Conv1d(4, 5, 1) for _ in range(depth))

    def forward(self, x):
        x, total = x.mT, 0.0
        for place, (wide, head) in enumerate(zip(self.wide, self.heads, strict=True)):
            f, g = wide(F.pad(x, (2**place, 0))).chunk(2, 1)
            z = torch.tanh(f) * torch.sigmoid(g)
            total = total + head(z)
            if place < len(self.onward):
                x = x + self.onward[place](z)
        return F.relu(total)


class Euler(nn.Module):
    """An ordinary differential equation in steps of 1/4, with the time put beside the state"""

    def __init__(self):
        super().__init__()
        self.field = nn.Sequential(nn.Linear(WIDTH + 1, 8), nn.Tanh(), nn.Linear(8, WIDTH))

    def forward(self, x):
        for step in range(4):
            time = torch.full((len(x), 1), step / 4)
            x = x + 0.25 * self.field(torch.cat([x, time], -1))
        return x


class ReZero(nn.Module):
    def __init__(self):
        super().__init__()
        self.maps, self.share = perceptron(), nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x + self.share * self.maps(x)


class Graph(nn.Module):
    """Messages along the edges of a graph"""

    def __init__(self):
        super().__init__()
        self.messages = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))
        self.passed = nn.ModuleList(nn.ReLU() for _ in range(2))

    def forward(self, nodes, *, edges):
        share = edges / edges.sum(-1, keepdim=True)
        for message, passed in zip(self.messages, self.passed, strict=True):
            nodes = nodes + passed(share @ message(nodes))
        return nodes


class Recurrent(nn.Module):
    """torch's own recurrent net, and a head on its last step"""

    def __init__(self, kind):
        super().__init__()
        self.cells, self.head = kind(WIDTH, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.cells(x)[0][:, -1])


class LongShortTerm(nn.Module):
    """An LSTM cell by hand: c = f·c + i·g, whose f, i and g come of the same"""

    def __init__(self):
        super().__init__()
        self.of_input, self.of_state = nn.Linear(WIDTH, 32), nn.Linear(8, 32)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        h = c = torch.zeros(len(x), 8)
        for step in x.unbind(1):
            i, f, g, o = (self.of_input(step) + self.of_state(h)).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return self.head(h)


class GatedRecurrent(nn.Module):
    """A GRU cell by hand, with its r·(W h) inside"""

    def __init__(self):
        super().__init__()
        self.of_input, self.of_state = nn.Linear(WIDTH, 24), nn.Linear(8, 24)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        h = torch.zeros(len(x), 8)
        for step in x.unbind(1):
            (r, z, n), (r2, z2, n2) = self.of_input(step).chunk(3, -1), self.of_state(h).chunk(3, -1)
            z = torch.sigmoid(z + z2)
            h = (1 - z) * torch.tanh(n + torch.sigmoid(r + r2) * n2) + z * h
        return self.head(h)


@dataclass
class Said:
    loss: torch.Tensor
    logits: torch.Tensor
    hidden: dict[str, torch.Tensor]


class WithLoss(nn.Module):
    """Reads numbers and classes, adds positions, weighs its own losses, and gives a dataclass"""

    def __init__(self):
        super().__init__()
        self.places = nn.Parameter(torch.randn(5, WIDTH))
        self.blocks = nn.ModuleList(Mixer() for _ in range(2))
        self.head = nn.Linear(WIDTH, 4)

    def forward(self, x, labels=None):
        x = x + self.places
        for block in self.blocks:
            x = block(x)
        logits = self.head(x)
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return Said(loss + 0.01 * logits.square().mean() + 0.1 * x.abs().mean(), logits, {"last": x})


def chain(*blocks):
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), *blocks, nn.Linear(WIDTH, 3))


def labelled():
    return {"labels": torch.randint(4, (2, 5)), "x": sequences()}
