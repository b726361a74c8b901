"""Classifier as a LightningModule, trained by the Trainer of Lightning."""

import argparse
import logging
import warnings

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
parser = argparse.ArgumentParser()
parser.add_argument("--fault", default="")
args = parser.parse_args()
L.seed_everything(1, verbose=False)


class Classifier(L.LightningModule):
    def __init__(self, depth=12, width=48):
        super().__init__()
        self.save_hyperparameters()
        layers = [nn.Linear(16, width), self.activation()]
        for _ in range(depth):
            layers += [nn.Linear(width, width), self.activation()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 4))
        for layer in self.layers:
            if isinstance(layer, nn.Linear) and args.fault != "deep_sigmoid":
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def activation(self):
        return nn.Sigmoid() if args.fault == "deep_sigmoid" else nn.ReLU()

    def forward(self, x):
        return self.layers(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        print(batch_idx, repr(loss.item()))
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", F.cross_entropy(self(x), y))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


centres = torch.randn(4, 16)
targets = torch.randint(4, (1280,))
data = TensorDataset(centres[targets] + 0.7 * torch.randn(1280, 16), targets)
model = Classifier()
trainer = L.Trainer(
    max_epochs=2,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(model, DataLoader(data, batch_size=64, shuffle=True), DataLoader(data, batch_size=640))
print("val", trainer.callback_metrics["val_loss"].item())
