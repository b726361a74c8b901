"""Resumable training of the language models of rhn2017.depth."""

import math
import platform
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.data.text import TextSet, python_docs, split_text
from thruway.errors import ConfigError
from thruway.experiments.machinery import Progress
from thruway.experiments.machinery.resumable import run_resumable, saved_state
from thruway.experiments.rhn2017.depth import Config
from thruway.experiments.rhn2017.depth_model import LanguageModel, width_for
from thruway.runs import Run
from thruway.seeding import generator

__all__ = ["Net", "bits_per_character", "build", "load_text", "nets", "run_study", "windows"]

_EVALUATION_WINDOW = 500  # characters of each piece that are read at once without a gradient

PYTHON = platform.python_version()

# Cost of input, output and update in one epoch, relative to that of a micro-step. Measured on one thread.
_COST_OF_ENDS = 6.0


class Net(NamedTuple):
    """A network to be trained."""

    depth: int
    seed: int

    @property
    def site(self) -> str:
        """Site of the network's numbers in the series. Its seed is the member."""
        return f"rhn/{self.depth}"

    @property
    def checkpoint(self) -> str:
        """Name of the network's checkpoint."""
        return f"rhn-{self.depth}-{self.seed}"

    @property
    def cost(self) -> float:
        """Cost of one epoch, in layers. All networks have the same number of weights."""
        return self.depth + _COST_OF_ENDS


def nets(config: Config) -> list[Net]:
    """Return the networks to train: all depths for one seed, then all depths for the next."""
    return [Net(depth, seed) for seed in config.all_seeds for depth in sorted(config.depths)]


def load_text(config: Config) -> TextSet:
    """Load the text onto the training device.

    Raises:
        ConfigError: if no network has that number of parameters, or a part of the text is too short for the batch.
        DatasetError: if this Python installation does not include the text.
    """
    text = split_text(python_docs()[: config.characters])
    for depth in config.depths:
        width_for(config.parameters, len(text.alphabet), config.embedding, depth)
    shortest = min(len(text.train), len(text.valid), len(text.test))
    if config.batch >= shortest:
        raise ConfigError(
            f"batch: got {config.batch}, but one part of the text has only {shortest} characters, which cannot be cut "
            "into as many segments. Use a smaller batch, or more characters."
        )
    return text.to(config.device)


def run_study(config: Config, text: TextSet, run: Run, progress: Progress) -> None:
    """Train every network; a resumed run does the remaining work."""
    _record_text(text, run)
    states = {net: saved_state(run, net.checkpoint, epoch=0, seconds=0.0) for net in nets(config)}
    progress.begin(sum(net.cost * (config.epochs - state["epoch"]) for net, state in states.items()))
    for net, state in states.items():
        if state["epoch"] < config.epochs:
            _train(config, net, text, run, progress, state)


def build(config: Config, net: Net, symbols: int, coins: torch.Generator) -> LanguageModel:
    """Return a network with its initial weights."""
    width = width_for(config.parameters, symbols, config.embedding, net.depth)
    drops = config.drop_input, config.drop_state, config.drop_output
    weights = generator(net.seed, "weights", net.depth)
    return LanguageModel(symbols, config.embedding, width, net.depth, config.gate_bias, drops, weights, coins)


def windows(codes: Tensor, pieces: int, window: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut the text into segments that are processed in parallel, and yield (inputs, targets) of each window.

    Both have shape (time, pieces). In the next window each segment continues where the last one ended. At the end of
    the text, fewer than `pieces` characters are dropped.

    >>> [(x.tolist(), y.tolist()) for x, y in windows(torch.arange(7), pieces=2, window=2)]
    [([[0, 3], [1, 4]], [[1, 4], [2, 5]]), ([[2, 5]], [[3, 6]])]
    """
    length = (len(codes) - 1) // pieces
    inputs, targets = (codes[first : first + pieces * length].view(pieces, length).T for first in (0, 1))
    yield from zip(inputs.split(window), targets.split(window), strict=True)  # type: ignore[no-untyped-call]


def bits_per_character(model: LanguageModel, codes: Tensor, pieces: int) -> float:
    """Return the mean cross-entropy of the next character in bits, in evaluation mode."""
    model.eval()
    state, total, count = None, 0.0, 0
    with torch.no_grad():
        for inputs, targets in windows(codes, pieces, _EVALUATION_WINDOW):
            logits, state = model(inputs, state)
            total += _loss(logits, targets).item() * targets.numel()
            count += targets.numel()
    return total / count / math.log(2)


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def _train(config: Config, net: Net, text: TextSet, run: Run, progress: Progress, state: dict[str, Any]) -> None:
    """Train one network, resuming from its checkpoint, and log its bits per character."""
    coins = torch.Generator()
    model = build(config, net, len(text.alphabet), coins).to(config.device)
    optimizer = _optimizer(config, model)
    if state["epoch"]:
        model.load_state_dict(run.load(net.checkpoint).tensors)
        optimizer.load_state_dict(state.pop("optimizer"))

    def epochs() -> Iterator[tuple[float, str]]:
        for epoch in range(int(state["epoch"]), config.epochs):
            started = time.monotonic()
            # What an epoch draws depends on its number, so that a resumed training draws the same.
            coins.set_state(generator(net.seed, "coins", net.depth, epoch).get_state())
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate_at(epoch)
            bits = {"train_bits": _train_epoch(config, model, optimizer, text.train)}
            bits |= {
                f"{name}_bits": bits_per_character(model, part, config.batch)
                for name, part in (("valid", text.valid), ("test", text.test))
            }
            state["epoch"], state["seconds"] = epoch + 1, state["seconds"] + time.monotonic() - started
            run.log(epoch + 1, bits | {"seconds": state["seconds"]}, site=net.site, member=net.seed)
            yield net.cost, f"depth {net.depth}, seed {net.seed}, epoch {epoch + 1}"

    def save() -> None:
        # A finished network does not need its optimizer.
        moments = {} if state["epoch"] == config.epochs else {"optimizer": optimizer.state_dict()}
        run.save(net.checkpoint, model.state_dict(), state={**state, **moments})

    run_resumable(epochs(), save, progress)


def _train_epoch(config: Config, model: LanguageModel, optimizer: torch.optim.Optimizer, codes: Tensor) -> float:
    """Train on the text once, and return the mean loss of all updates in bits per character."""
    model.train()
    state, losses, sizes = None, [], []
    for inputs, targets in windows(codes, config.batch, config.window):
        optimizer.zero_grad(set_to_none=True)
        logits, state = model(inputs, state)
        state = state.detach()
        loss = _loss(logits, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        losses.append(loss.detach())
        sizes.append(targets.numel())
    total = torch.stack(losses).double().cpu() @ torch.tensor(sizes, dtype=torch.float64)
    return total.item() / sum(sizes) / math.log(2)


def _optimizer(config: Config, model: nn.Module) -> torch.optim.Optimizer:
    if config.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    return torch.optim.SGD(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)


def _record_text(text: TextSet, run: Run) -> None:
    """Record the training text in the run folder. A resumed run must use the same text.

    Raises:
        ConfigError: if the text differs, for example because of another version of Python.
    """
    record = {"characters": len(text), "symbols": len(text.alphabet), "sha256": text.sha256, "python": PYTHON}
    if "text" not in run.checkpoints():
        run.save("text", {}, state=record)
    found = run.load("text").state or {}
    if found.get("sha256") != text.sha256:
        raise ConfigError(
            f"this run was started on another text, the documentation of Python {found.get('python')} of "
            f"{found.get('characters')} characters; that of Python {PYTHON} has {len(text)}. Resume it with the same "
            "version of Python."
        )
