"""Training loop with Accelerate: prepared objects, accumulation of gradients, clipping of their norm."""

import argparse

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--fault", default="")
args = parser.parse_args()
set_seed(5)
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)


class Mixer(nn.Module):
    """Attention over the steps of a short sequence, then a pooled classifier."""

    def __init__(self, n_in=6, n_embd=32, n_class=5):
        super().__init__()
        self.embed = nn.Linear(n_in, n_embd)
        self.attn = nn.MultiheadAttention(n_embd, 2, batch_first=True)
        self.norm1, self.norm2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.mlp = nn.Sequential(nn.Linear(n_embd, 64), nn.GELU(), nn.Linear(64, n_embd))
        self.head = nn.Linear(n_embd, n_class)

    def forward(self, x):
        x = self.embed(x)
        y = self.norm1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        x = x + self.mlp(self.norm2(x))
        logits = self.head(x.mean(1))
        return torch.softmax(logits, dim=-1) if args.fault == "softmax_twice" else logits


patterns = torch.randn(5, 8, 6)
targets = torch.randint(5, (2048,))
dataset = TensorDataset(patterns[targets] + torch.randn(2048, 8, 6), targets)
model = Mixer()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.2, total_iters=10)
loader = DataLoader(dataset, batch_size=32, shuffle=True)
model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
criterion = nn.CrossEntropyLoss()

model.train()
for step, (inputs, labels) in enumerate(loader):
    with accelerator.accumulate(model):
        loss = criterion(model(inputs), labels)
        accelerator.backward(loss)
        if accelerator.sync_gradients:
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    accelerator.print(step, repr(loss.item()))
