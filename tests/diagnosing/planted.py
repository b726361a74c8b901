"""Training scripts in the style of public examples, each with one planted fault, watched as a user would."""

import math

import torch
from torch import nn
from torch.nn import functional as F

import thruway as tw


def digits(batch, steps, size=28):
    """Yield batches of noisy images of ten classes, with values in [0, 1] and mostly dark, as those of MNIST."""
    generator = torch.Generator().manual_seed(0)
    prototypes = (torch.rand(10, size * size, generator=generator) < 0.2).float()
    for _ in range(steps):
        labels = torch.randint(0, 10, (batch,), generator=generator)
        noise = 0.3 * torch.randn(batch, size * size, generator=generator)
        yield (prototypes[labels] + noise).clamp(0, 1).view(batch, 1, size, size), labels


class Net(nn.Module):
    """The MLP of many MNIST tutorials."""

    def __init__(self, softmax=False):
        super().__init__()
        self.fc1 = nn.Linear(784, 128)
        self.fc2 = nn.Linear(128, 64)
        self.fc3 = nn.Linear(64, 10)
        self.softmax = softmax

    def forward(self, x):
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        x = self.fc3(x)
        return F.softmax(x, dim=1) if self.softmax else x


class DeepNet(nn.Module):
    def __init__(self, depth, activation, width=64):
        super().__init__()
        self.embed = nn.Linear(784, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.head = nn.Linear(width, 10)
        self.activation = activation

    def forward(self, x):
        x = self.activation(self.embed(torch.flatten(x, 1)))
        for layer in self.hidden:
            x = self.activation(layer(x))
        return self.head(x)


def train(model, optimizer, steps=40, zero_grad=True):
    with tw.watch(model, optimizer=optimizer) as trace:
        for data, target in digits(64, steps):
            if zero_grad:
                optimizer.zero_grad()
            loss = F.cross_entropy(model(data), target)
            loss.backward()
            optimizer.step()
    return trace


def sgd_too_fast():
    model = Net()
    return train(model, torch.optim.SGD(model.parameters(), lr=10.0))


def adam_too_fast():
    model = Net()
    return train(model, torch.optim.Adam(model.parameters(), lr=0.1))


def deep_tanh_large_weights():
    model = DeepNet(34, torch.tanh)
    for layer in (model.embed, *model.hidden):
        nn.init.normal_(layer.weight, std=1.0)
    return train(model, torch.optim.SGD(model.parameters(), lr=0.01), steps=12)


def deep_sigmoid():
    model = DeepNet(18, torch.sigmoid)
    return train(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), steps=12)


def all_zero():
    model = Net()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return train(model, torch.optim.SGD(model.parameters(), lr=0.1))


def no_zero_grad():
    model = Net()
    return train(model, torch.optim.SGD(model.parameters(), lr=0.01), zero_grad=False)


def dead_layer():
    model = Net()
    nn.init.constant_(model.fc2.bias, -20.0)
    return train(model, torch.optim.Adam(model.parameters(), lr=0.001))


def softmax_before_cross_entropy():
    model = Net(softmax=True)
    return train(model, torch.optim.SGD(model.parameters(), lr=0.01))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.c_fc, self.mlp_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.heads = heads

    def forward(self, x):
        size, length, width = x.shape
        q, k, v = (
            part.view(size, length, self.heads, -1).transpose(1, 2)
            for part in self.c_attn(self.ln_1(x)).split(width, dim=2)
        )
        scores = q @ k.transpose(-2, -1) / math.sqrt(k.shape[-1])
        mask = torch.ones(length, length, dtype=torch.bool).tril()
        weights = F.softmax(scores.masked_fill(~mask, float("-inf")), dim=-1)
        x = x + self.c_proj((weights @ v).transpose(1, 2).reshape(size, length, width))
        return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x))))


class GPT(nn.Module):
    def __init__(self, vocabulary=24, length=16, width=32, depth=3):
        super().__init__()
        self.wte = nn.Embedding(vocabulary, width)
        self.wpe = nn.Embedding(length, width)
        self.h = nn.ModuleList(Block(width, 2) for _ in range(depth))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, tokens, targets):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def train_gpt(model, steps=40):
    """Train on sequences that count upwards, as minGPT does: zero_grad after the forward pass, clipping, AdamW."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, betas=(0.9, 0.95))
    generator = torch.Generator().manual_seed(0)
    with tw.watch(model, optimizer=optimizer) as trace:
        for _ in range(steps):
            start = torch.randint(0, 24, (16, 1), generator=generator)
            tokens = (start + torch.arange(17)) % 24
            _, loss = model(tokens[:, :-1], tokens[:, 1:])
            model.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return trace


def frozen_position_embedding():
    model = GPT()
    nn.init.zeros_(model.wpe.weight)
    model.wpe.weight.requires_grad_(False)
    return train_gpt(model)


def healthy_net():
    model = Net()
    return train(model, torch.optim.SGD(model.parameters(), lr=0.1))


def healthy_gpt():
    return train_gpt(GPT())
