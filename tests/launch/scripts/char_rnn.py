"""Character-level recurrent network: a cell written by hand, stepped through the letters of names."""

import argparse

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--learning-rate", type=float, default=5e-3)
parser.add_argument("--fault", default="")
args = parser.parse_args()
if args.fault == "learning_rate":
    args.learning_rate = 1e-9
torch.manual_seed(42)

names = [
    "anna",
    "bella",
    "carla",
    "dora",
    "ella",
    "fiona",
    "greta",
    "hanna",
    "irma",
    "jana",
    "lena",
    "nina",
    "olga",
    "rosa",
]
letters = "." + "abcdefghijklmnopqrstuvwxyz"
longest = max(map(len, names)) + 1


def batch(size):
    rows = []
    for index in torch.randint(len(names), (size,)).tolist():
        name = "." + names[index] + "."
        rows.append([letters.index(c) for c in name] + [0] * (longest + 1 - len(name)))
    rows = torch.tensor(rows)
    return rows[:, :-1], rows[:, 1:]


class RNNCell(nn.Module):
    def __init__(self, n_embd, n_hidden):
        super().__init__()
        self.xh_to_h = nn.Linear(n_embd + n_hidden, n_hidden)

    def forward(self, xt, hprev):
        return torch.tanh(self.xh_to_h(torch.cat([xt, hprev], dim=1)))


class RNN(nn.Module):
    def __init__(self, n_embd=16, n_hidden=32):
        super().__init__()
        self.start = nn.Parameter(torch.zeros(1, n_hidden))
        self.wte = nn.Embedding(len(letters), n_embd)
        self.cell = RNNCell(n_embd, n_hidden)
        self.lm_head = nn.Linear(n_hidden, len(letters))

    def forward(self, idx, targets=None):
        hidden = self.start.expand(idx.size(0), -1)
        outputs = []
        for xt in self.wte(idx).unbind(1):
            hidden = self.cell(xt, hidden)
            outputs.append(hidden)
        logits = self.lm_head(torch.stack(outputs, 1))
        loss = None
        if targets is not None:
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return logits, loss


model = RNN()
optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=0.01)
for step in range(60):
    logits, loss = model(*batch(32))
    model.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    print(f"step {step} | loss {loss.item()!r}")
    if step % 20 == 19:
        with torch.inference_mode():
            print("next", model(torch.zeros(1, 1, dtype=torch.long))[0].argmax().item())
