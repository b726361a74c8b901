"""Training the language model of each depth into the run folder, and going on where that stopped."""

import math
import platform
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.data.text import TextSet, python_docs, split_text
from thruway.errors import CheckpointError, ConfigError
from thruway.experiments.experiment import Progress
from thruway.experiments.rhn2017.depth import Config
from thruway.experiments.rhn2017.depth_net import LanguageModel, width_for
from thruway.runs import Run
from thruway.seeding import generator

__all__ = ["Net", "bits_per_character", "build", "load_text", "nets", "run_study", "windows"]

_SAVE_EVERY_S = 30.0  # a checkpoint at least this often; what a kill -9 can cost
_READ_AT_ONCE = 500  # characters of each piece, where no gradient is wanted

PYTHON = platform.python_version()

# Work of one epoch beside that of a micro-step: the input, the output, the update. Measured on one thread.
_COST_OF_ENDS = 6.0


class Net(NamedTuple):
    """One net to train."""

    depth: int
    seed: int

    @property
    def site(self) -> str:
        """Where its numbers stand in the series; its seed is the member."""
        return f"rhn/{self.depth}"

    @property
    def checkpoint(self) -> str:
        """The name of its checkpoint."""
        return f"rhn-{self.depth}-{self.seed}"

    @property
    def cost(self) -> float:
        """Work of one epoch, in micro-steps; all nets have one number of weights."""
        return self.depth + _COST_OF_ENDS


def nets(config: Config) -> list[Net]:
    """What is trained: all depths of one seed, then those of the next, so that there is a curve to see early."""
    return [Net(depth, seed) for seed in config.all_seeds for depth in sorted(config.depths)]


def load_text(config: Config) -> TextSet:
    """The text, on the device that trains.

    Raises:
        ConfigError: if there is no net of that many parameters, or a part of the text is too short for the batch.
        DatasetError: if this Python came without the text.
    """
    text = split_text(python_docs()[: config.characters])
    for depth in config.depths:
        width_for(config.parameters, len(text.alphabet), config.embedding, depth)
    shortest = min(len(text.train), len(text.valid), len(text.test))
    if config.batch >= shortest:
        raise ConfigError(
            f"batch: got {config.batch}, but one part of the text has only {shortest} characters to cut into as many "
            "pieces. Take a smaller batch, or more characters."
        )
    return text.to(config.device)


def run_study(config: Config, text: TextSet, run: Run, progress: Progress) -> None:
    """Train every net, or what is left of it, into the run folder."""
    _note_text(text, run)
    done = {net: _state_of(net, run) for net in nets(config)}
    progress.begin(sum(net.cost * (config.epochs - state["epoch"]) for net, state in done.items()))
    for net, state in done.items():
        if state["epoch"] < config.epochs:
            _train(config, net, text, run, progress, state)


def build(config: Config, net: Net, symbols: int, coins: torch.Generator) -> LanguageModel:
    """A net before its first step."""
    width = width_for(config.parameters, symbols, config.embedding, net.depth)
    drops = config.drop_input, config.drop_state, config.drop_output
    weights = generator(net.seed, "weights", net.depth)
    return LanguageModel(symbols, config.embedding, width, net.depth, config.gate_bias, drops, weights, coins)


def windows(codes: Tensor, pieces: int, window: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(inputs, targets), each (time, pieces): the text cut into pieces that are read side by side, window by window.

    Each piece goes on in the next window where it was left; at the end of the text less than a row is left out.

    >>> [(x.tolist(), y.tolist()) for x, y in windows(torch.arange(7), pieces=2, window=2)]
    [([[0, 3], [1, 4]], [[1, 4], [2, 5]]), ([[2, 5]], [[3, 6]])]
    """
    length = (len(codes) - 1) // pieces
    inputs, targets = (codes[first : first + pieces * length].view(pieces, length).T for first in (0, 1))
    yield from zip(inputs.split(window), targets.split(window), strict=True)  # type: ignore[no-untyped-call]


def bits_per_character(model: LanguageModel, codes: Tensor, pieces: int) -> float:
    """The mean surprise at a next character, in evaluation mode."""
    model.eval()
    state, total, count = None, 0.0, 0
    with torch.no_grad():
        for inputs, targets in windows(codes, pieces, _READ_AT_ONCE):
            logits, state = model(inputs, state)
            total += _loss(logits, targets).item() * targets.numel()
            count += targets.numel()
    return total / count / math.log(2)


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy, in nats."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def _train(config: Config, net: Net, text: TextSet, run: Run, progress: Progress, state: dict[str, Any]) -> None:
    """Train one net to the end, from its checkpoint if there is one, and log how it learnt, in bits per character."""
    coins = torch.Generator()
    model = build(config, net, len(text.alphabet), coins).to(config.device)
    optimizer = _optimizer(config, model)
    epoch, seconds = int(state["epoch"]), float(state["seconds"])
    if epoch:
        model.load_state_dict(run.load(net.checkpoint).tensors)
        optimizer.load_state_dict(state["optimizer"])
    saved_at = time.monotonic()
    while epoch < config.epochs:
        started = time.monotonic()
        # What an epoch draws depends on its number, so that a resumed training draws the same.
        coins.set_state(generator(net.seed, "coins", net.depth, epoch).get_state())
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate_at(epoch)
        told = {"train_bits": _train_epoch(config, model, optimizer, text.train)}
        told |= {
            f"{name}_bits": bits_per_character(model, part, config.batch)
            for name, part in (("valid", text.valid), ("test", text.test))
        }
        epoch, seconds = epoch + 1, seconds + time.monotonic() - started
        run.log(epoch, told | {"seconds": seconds}, site=net.site, member=net.seed)
        is_due = epoch == config.epochs or time.monotonic() - saved_at > _SAVE_EVERY_S
        if is_due:
            _save(config, net, model, optimizer, run, epoch, seconds)
            saved_at = time.monotonic()
        try:
            progress.advance(net.cost, f"depth {net.depth}, seed {net.seed}, epoch {epoch}")
        except KeyboardInterrupt:
            # Only here: an interrupt inside an epoch leaves weights that belong to no epoch.
            _save(config, net, model, optimizer, run, epoch, seconds)
            raise


def _train_epoch(config: Config, model: LanguageModel, optimizer: torch.optim.Optimizer, codes: Tensor) -> float:
    """One pass over the text; its mean loss in bits per character, of the net as it was while it learnt."""
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


# --- checkpoints


def _note_text(text: TextSet, run: Run) -> None:
    """Which text it is, kept in the run folder; on resuming it must be the same.

    Raises:
        ConfigError: if it is another, as after a change of Python.
    """
    told = {"characters": len(text), "symbols": len(text.alphabet), "sha256": text.sha256, "python": PYTHON}
    if "text" not in run.checkpoints():
        run.save("text", {}, state=told)
    found = run.load("text").state or {}
    if found.get("sha256") != text.sha256:
        raise ConfigError(
            f"this run began on the documentation of Python {found.get('python')}, {found.get('characters')} "
            f"characters; that of Python {PYTHON} is another text, of {len(text)}. Resume it with the Python that it "
            "began with."
        )


def _save(
    config: Config,
    net: Net,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    run: Run,
    epoch: int,
    seconds: float,
) -> None:
    state: dict[str, Any] = {"epoch": epoch, "seconds": seconds}
    if epoch < config.epochs:  # nobody needs the moments of a net that is done
        state["optimizer"] = optimizer.state_dict()
    run.save(net.checkpoint, model.state_dict(), state=state)


def _state_of(net: Net, run: Run) -> dict[str, Any]:
    """How far a net is: epochs trained, and seconds spent."""
    state: dict[str, Any] = {"epoch": 0, "seconds": 0.0}
    if net.checkpoint in run.checkpoints():
        found = run.load(net.checkpoint).state
        if found is None:
            raise CheckpointError(
                f"the checkpoint {net.checkpoint!r} does not say how far it is. Remove it to train this net again."
            )
        state |= found
    return state
