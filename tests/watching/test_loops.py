"""Training loops without Thruway code except one `with` line, against float64."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from thruway.watching import watch

STEPS = 4
RTOL, ATOL = 2e-4, 2e-6  # as in conftest


# Plain PyTorch


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Softplus(), nn.Conv2d(4, 4, 3), nn.Tanh()
        )
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


def images() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(32, 1, 8, 8, generator=generator), torch.arange(32) % 3)


def seeded(build: Callable[[], Any]) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


@pytest.mark.parametrize("gives_optimizer", [False, True], ids=["by calls", "by optimizer"])
def test_plain_pytorch(gives_optimizer: bool, recorded: Any, assert_as_in_float64: Any) -> None:
    model = seeded(Classifier)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    loader = DataLoader(images(), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(1))
    targets = []
    with recorded(model) as steps, watch(model, optimizer=optimizer if gives_optimizer else None) as trace:
        for x, y in loader:
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            schedule.step()
            targets.append(y)
    assert len(steps) == STEPS
    sites = {name: name for name in ("features.0", "features.1", "features.2", "features.3", "features.4", "head")}
    answers = iter(targets)
    assert_as_in_float64(trace, steps, sites, lambda output: F.cross_entropy(output, next(answers)))


# Lightning


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # other people's; a failed watch is asserted
@pytest.mark.parametrize("gives_optimizer", [False, True], ids=["by calls", "by optimizer"])
def test_lightning(gives_optimizer: bool, tmp_path: Path, recorded: Any, assert_as_in_float64: Any) -> None:
    """Its optimizer runs the training step as a closure, and it evaluates before and in between."""
    lightning = pytest.importorskip("lightning")

    class Lit(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = Classifier()
            self.made = torch.optim.Adam(self.net.parameters(), 1e-2)
            self.targets: list[Tensor] = []

        def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
            x, y = batch
            self.targets.append(y)
            return F.cross_entropy(self.net(x), y)

        def validation_step(self, batch: tuple[Tensor, Tensor], _index: int) -> None:
            self.net(batch[0] * math.pi)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return self.made

    lit = seeded(Lit)
    trainer = lightning.Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        val_check_interval=2,
    )
    loader = DataLoader(images(), batch_size=8)
    optimizer = lit.made if gives_optimizer else None
    with recorded(lit.net) as steps, watch(lit.net, optimizer=optimizer) as trace:
        trainer.fit(lit, loader, loader)
    assert len(steps) == STEPS
    sites = {name: name for name in ("features.0", "features.1", "features.2", "features.3", "features.4", "head")}
    answers = iter(lit.targets)
    assert_as_in_float64(trace, steps, sites, lambda output: F.cross_entropy(output, next(answers)))
    if gives_optimizer:
        norms = trace.series("norm", "parameter_gradient")
        for at, (step, y) in enumerate(zip(steps, lit.targets, strict=True)):
            step.model.zero_grad()
            F.cross_entropy(step.model(*step.arguments), y).backward()
            wanted = [step.model.get_parameter(name).grad.norm().item() for name in norms.names]
            np.testing.assert_allclose(norms.values[:, at], wanted, RTOL, ATOL)
