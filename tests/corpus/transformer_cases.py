"""Cases of transformers, faulty and healthy."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.corpus.case import Batch, Case, Draw
from tests.corpus.data import Data, majority, sorting, text
from tests.corpus.evidence import all_of, true
from tests.corpus.loops import cross_entropy, no_zero_grad, scheduled, token_loss
from tests.corpus.mlp_cases import GROWN, SHRUNK
from tests.corpus.optimizers import adam, other, sgd
from tests.corpus.proofs import (
    accumulates,
    changes,
    fault_costs,
    first_update,
    learns,
    non_finite,
    probabilities_before_softmax,
    steps_raise_the_loss,
    stuck,
    unchanged,
)

WIDTH = 24


class Attention(nn.Module):
    """Multi-head self-attention, written out as in minGPT. Tokens that are 0 are masked if `padding` is given."""

    def __init__(self, width: int, heads: int = 2, causal: bool = True):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.heads, self.causal = heads, causal

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        b, t, width = x.shape
        q, k, v = (p.view(b, t, self.heads, -1).transpose(1, 2) for p in self.qkv(x).chunk(3, 2))
        scores = q @ k.mT / (width / self.heads) ** 0.5
        if self.causal:
            scores = scores.masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), -torch.inf)
        if padding is not None:
            scores = scores.masked_fill(padding[:, None, None], -torch.inf)
        return self.proj((torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(b, t, width))


class Block(nn.Module):
    """A transformer block: pre-norm, post-norm, or attention alone without skip."""

    def __init__(self, width: int, style: str, causal: bool, scale: float | None = None):
        super().__init__()
        self.attention = Attention(width, causal=causal)
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.fc, self.act, self.out = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        self.gamma = None if scale is None else nn.Parameter(torch.full((width,), scale))
        self.style = style

    def feed(self, x: Tensor) -> Tensor:
        return self.out(self.act(self.fc(x)))

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        if self.style == "bare":
            return self.attention(x, padding)
        if self.style == "post":
            x = self.ln1(x + self.attention(x, padding))
            return self.ln2(x + self.feed(x))
        gamma = 1.0 if self.gamma is None else self.gamma
        x = x + gamma * self.attention(self.ln1(x), padding)
        return x + gamma * self.feed(self.ln2(x))


class GPT(nn.Module):
    """Token and position embeddings, blocks, a final norm and a head."""

    def __init__(
        self,
        depth: int,
        tokens: int = 24,
        length: int = 16,
        style: str = "pre",
        causal: bool = True,
        tied: bool = False,
        scale: float | None = None,
        last: nn.Module | None = None,
        masked: bool = False,
        padding_idx: int | None = None,
    ):
        super().__init__()
        self.tok = nn.Embedding(tokens, WIDTH, padding_idx)
        self.pos = nn.Parameter(torch.randn(length, WIDTH) * 0.5)
        self.drop = nn.Dropout(0.0)
        self.blocks = nn.ModuleList([Block(WIDTH, style, causal, scale) for _ in range(depth)])
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, tokens, bias=not tied)
        if tied:
            self.head.weight = self.tok.weight
            nn.init.normal_(self.tok.weight, std=0.2)
        self.last = nn.Identity() if last is None else last
        self.masked = masked

    def forward(self, x: Tensor) -> Tensor:
        padding = x == 0 if self.masked else None
        h = self.drop(self.tok(x) + self.pos)
        for block in self.blocks:
            h = block(h, padding)
        return self.last(self.head(self.norm(h)))


def gpt(low: int, high: int, **options) -> Callable[[Draw], nn.Module]:
    return lambda d: GPT(d.integer("depth", low, high), **options)


def sorter(low: int, high: int, **options) -> Callable[[Draw], nn.Module]:
    return gpt(low, high, tokens=12, length=8, causal=False, **options)


class PositionTable(nn.Module):
    """Learnt positions as an embedding layer."""

    def __init__(self, frozen: bool, depth: int):
        super().__init__()
        self.net = GPT(depth, 12, 8, causal=False)
        self.net.pos = None
        self.positions = nn.Embedding(8, WIDTH)
        if frozen:
            nn.init.zeros_(self.positions.weight)
            self.positions.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.net.tok(x) + self.positions(torch.arange(x.shape[1]))
        for block in self.net.blocks:
            h = block(h)
        return self.net.head(self.net.norm(h))


def detached_embedding(draw: Draw) -> nn.Module:
    """The embeddings are looked up without gradients, as in a copied evaluation function."""
    net = GPT(draw.integer("depth", 2, 3))
    lookup = net.tok.forward
    net.tok.forward = lambda x: lookup(x).detach()
    return net


def sinusoidal(draw: Draw) -> nn.Module:
    """Positions are fixed sines, a parameter that is frozen on purpose."""
    net = sorter(2, 3)(draw)
    angle = torch.arange(8)[:, None] / 100 ** (torch.arange(WIDTH) // 2 * 2 / WIDTH)
    net.pos = nn.Parameter(torch.where(torch.arange(WIDTH) % 2 == 0, angle.sin(), angle.cos()), requires_grad=False)
    return net


def large_embedding(draw: Draw) -> nn.Module:
    net = gpt(3, 4)(draw)
    nn.init.normal_(net.head.weight, std=3.0)
    return net


class Classifier(nn.Module):
    """Attention over a set, its maximum, and a class."""

    def __init__(self, sharpness: float):
        super().__init__()
        self.stem = nn.Linear(8, WIDTH)
        self.query, self.key, self.value = (
            nn.Parameter(torch.randn(WIDTH) / 5),
            nn.Linear(WIDTH, WIDTH),
            nn.Linear(WIDTH, WIDTH),
        )
        self.softmax, self.sharpness = nn.Softmax(dim=1), sharpness
        self.head = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.stem(x))
        weights = self.softmax(self.sharpness * self.key(h) @ self.query)
        return self.head((weights[..., None] * self.value(h)).sum(1))


def padded_at(step: int, data: Data) -> Data:
    """Put a sequence of padding only into one batch."""

    def made(draw: Draw) -> list[Batch]:
        batches = [(x + 1, y) for x, y in data(draw)]
        x = batches[step][0].clone()
        x[2] = 0
        batches[step] = (x, batches[step][1])
        return batches

    return made


def tokens_alike(*, above: float):
    """In the last block's output all tokens of a sequence have nearly the same direction, unlike in the first input."""

    def proof(evidence) -> None:
        outputs = evidence.record.outputs[0]
        name = [n for n in outputs if n.startswith("blocks.") and n.count(".") == 1][-1]
        x = F.normalize(outputs[name], dim=-1)
        found = (x @ x.mT).mean().item()
        true(found > above, f"the mean cosine of tokens at {name} is {found:.4f}")

    return proof


TEXT, SORT = text(30, batch=24), sorting(40, batch=32)

CASES = [
    # --- faulty
    Case(
        "attention_without_skips",
        "transformer",
        sorter(6, 8, style="bare"),
        SORT,
        token_loss,
        adam(0.003),
        symptoms=("rank_collapse", "vanishing_gradient"),
        also=SHRUNK,
        sites=("blocks*",),
        cure={"build": sorter(4, 4)},
        proof=all_of(tokens_alike(above=0.99), fault_costs()),
    ),
    Case(
        "attention_without_skips_text",
        "transformer",
        gpt(8, 10, style="bare", causal=False),
        TEXT,
        token_loss,
        adam(0.003),
        symptoms=("rank_collapse", "vanishing_gradient"),
        also=SHRUNK,
        sites=("blocks*",),
        cure={"build": gpt(3, 3)},
        proof=all_of(tokens_alike(above=0.99), fault_costs()),
    ),
    Case(
        "transformer_too_fast",
        "transformer",
        gpt(3, 4, style="post"),
        TEXT,
        token_loss,
        adam(0.3),
        symptoms=("lr_too_high",),
        onset=(0, 3),
        also=GROWN | SHRUNK | {"exploding_activation", "exploding_gradient"},
        cure={"optimizer": adam(0.003)},
        proof=all_of(first_update(above=0.5), steps_raise_the_loss(0.5, 2), fault_costs()),
    ),
    Case(
        "transformer_too_slow",
        "transformer",
        gpt(2, 3),
        TEXT,
        token_loss,
        adam(1e-7),
        symptoms=("lr_too_low",),
        onset=(0, 20),
        cure={"optimizer": adam(0.01)},
        proof=all_of(stuck(0.12), fault_costs()),
    ),
    Case(
        "transformer_frozen_zero_positions",
        "transformer",
        lambda d: PositionTable(True, d.integer("depth", 2, 3)),
        SORT,
        token_loss,
        adam(0.01),
        symptoms=("frozen_parameters",),
        sites=("positions*",),
        cure={"build": lambda d: PositionTable(False, d.integer("depth", 2, 3))},
        proof=all_of(unchanged("positions.weight"), fault_costs()),
    ),
    Case(
        "transformer_detached_embedding",
        "transformer",
        detached_embedding,
        TEXT,
        token_loss,
        adam(0.01),
        symptoms=("frozen_parameters",),
        sites=("tok*",),
        proof=all_of(unchanged("tok.weight"), changes("head.weight")),
    ),
    Case(
        "transformer_softmax_before_cross_entropy",
        "transformer",
        gpt(2, 3, last=nn.Softmax(dim=-1)),
        TEXT,
        token_loss,
        adam(0.003),
        symptoms=("double_softmax",),
        also=frozenset(("lr_too_low",)),
        cure={"build": gpt(2, 3)},
        proof=all_of(probabilities_before_softmax(24), fault_costs()),
    ),
    Case(
        "transformer_no_zero_grad",
        "transformer",
        gpt(2, 3),
        TEXT,
        token_loss,
        sgd(0.05),
        loop=no_zero_grad,
        symptoms=("gradients_accumulate",),
        also=GROWN,
        onset=(1, 1),
        proof=accumulates("head"),
    ),
    Case(
        "transformer_row_of_padding",
        "transformer",
        gpt(2, 3, tokens=25, masked=True, causal=False),
        padded_at(9, TEXT),
        token_loss,
        adam(0.003),
        symptoms=("nan_or_inf",),
        also=GROWN,
        onset=(9, 9),
        proof=non_finite(9),
    ),
    Case(
        "transformer_large_head",
        "transformer",
        large_embedding,
        TEXT,
        token_loss,
        adam(0.001),
        symptoms=("poor_init",),
        also=GROWN | {"exploding_gradient", "exploding_activation", "lr_too_low"},
        sites=("head*",),
        cure={"build": gpt(3, 4)},
        proof=fault_costs(),
    ),
    Case(
        "transformer_blocks_forgotten",
        "transformer",
        gpt(2, 3),
        TEXT,
        token_loss,
        adam(0.01, part=lambda m: nn.ModuleList([m.tok, m.norm, m.head])),
        symptoms=("frozen_parameters",),
        sites=("blocks*", "pos"),
        proof=all_of(unchanged("blocks.*"), changes("head.*")),
    ),
    # --- healthy
    Case(
        "transformer_gpt",
        "transformer",
        gpt(2, 3),
        TEXT,
        token_loss,
        adam(0.01),
        tempting="attention is masked with -inf",
        proof=learns(0.2),
    ),
    Case(
        "transformer_tied_weights",
        "transformer",
        gpt(2, 3, tied=True),
        text(50, batch=24),
        token_loss,
        adam(0.01),
        tempting="one parameter has two names",
        proof=learns(0.15),
    ),
    Case(
        "transformer_unseen_tokens",
        "transformer",
        gpt(2, 3, tokens=80),
        text(30, batch=24, tokens=80, used=16),
        token_loss,
        adam(0.01),
        tempting="most rows of the embedding have no gradient",
        proof=learns(0.3),
    ),
    Case(
        "transformer_post_norm_warm_up",
        "transformer",
        gpt(2, 3, style="post"),
        text(40, batch=24),
        token_loss,
        adam(0.01),
        loop=scheduled(lambda done: min(1.0, 5 * done) * (1 - 0.9 * done)),
        tempting="a rate of 0 at first",
        proof=learns(0.2),
    ),
    Case(
        "transformer_layer_scale",
        "transformer",
        gpt(4, 5, scale=1e-3),
        TEXT,
        token_loss,
        adam(0.01),
        tempting="branches add a thousandth",
        proof=learns(0.2),
    ),
    Case(
        "transformer_sinusoidal_positions",
        "transformer",
        sinusoidal,
        SORT,
        token_loss,
        adam(0.01, trainable=True),
        tempting="positions are a frozen parameter",
        proof=all_of(unchanged("pos"), learns(0.2)),
    ),
    Case(
        "transformer_learnt_positions",
        "transformer",
        lambda d: PositionTable(False, d.integer("depth", 2, 3)),
        SORT,
        token_loss,
        adam(0.01),
        tempting="positions are the same for every input",
        proof=learns(0.2),
    ),
    Case(
        "transformer_peaked_attention",
        "transformer",
        lambda d: Classifier(8.0),
        majority(40, length=10),
        cross_entropy,
        adam(0.01),
        tempting="attention weights near 0 and 1, a softmax inside the model",
        proof=learns(0.4),
    ),
    Case(
        "transformer_adamw_clipped_cosine",
        "transformer",
        gpt(3, 4),
        text(40, batch=24),
        token_loss,
        other("AdamW", 0.01, weight_decay=0.1),
        loop=scheduled(lambda done: min(1.0, 10 * done) * (1 - done) ** 2),
        tempting="updates fall to 0",
        proof=learns(0.2),
    ),
    Case(
        "transformer_padding_row",
        "transformer",
        gpt(2, 3, tokens=25, padding_idx=24),
        TEXT,
        token_loss,
        adam(0.01),
        tempting="a row of zeros that never changes",
        proof=learns(0.2),
    ),
]
