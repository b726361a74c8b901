"""Nets of a study trained into its run folder, each once, and going on where that stopped."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from thruway.data import batches, shifted_and_mirrored
from thruway.errors import CheckpointError, ConfigError
from thruway.experiments.experiment import Progress
from thruway.experiments.image_parts import Parts
from thruway.experiments.image_study import NOT_PROTOCOL, ImageStudy
from thruway.runs import Run, RunReader, open_run
from thruway.seeding import generator
from thruway.train import train

__all__ = ["Net", "epochs_left", "error_rate", "guessing_error", "passes", "train_net", "trained"]

# A checkpoint at least this often; what a kill -9 can cost.
_SAVE_EVERY_S = 30.0
_EVALUATED_AT_ONCE = 500  # examples


@dataclass(frozen=True)
class Net:
    """One net to train.

    Attributes:
        name: of the kind of net, such as "resnet"; with the seed it names the checkpoint.
        seed: decides its weights, its coins and the order of its examples.
        build: (data, weights, coins) -> the net: what it learns from, and generators for its first weights and for
            what it draws while it learns.
        learning_rate: None takes the config's.
        warmup: first epochs, at a tenth of the rate; None takes the config's.
        weights: nets of one seed with the same name here start from the same draws; "" takes `name`.
        cost: work on one example, forwards and backwards, in any unit that all nets of the study share.
    """

    name: str
    seed: int
    build: Callable[[Parts, torch.Generator, torch.Generator], nn.Module]
    learning_rate: float | None = None
    warmup: int | None = None
    weights: str = ""
    cost: float = 1.0

    @property
    def checkpoint(self) -> str:
        """The name of its checkpoint."""
        return f"net-{self.name}-{self.seed}"


def epochs_left(config: ImageStudy, net: Net, run: Run) -> int:
    """Epochs that have still to be trained."""
    return config.epochs - int(_state_of(net, run)["epoch"])


def train_net(config: ImageStudy, net: Net, parts: Parts, run: Run, progress: Progress) -> None:
    """Train one net to the end, from its checkpoint if there is one, and log how it learnt.

    After each epoch the mean training loss; at the end the error on the test part, and the seconds spent.
    """
    state = _state_of(net, run)
    if not state["epoch"] and _taken_over(config, net, parts, run):
        progress.advance(net.cost * config.epochs * len(parts.train), f"{net.name}, seed {net.seed}, taken over")
        return
    coins, draws = torch.Generator(), torch.Generator()
    model = _built(net, parts, coins).to(config.device)
    rate = config.learning_rate if net.learning_rate is None else net.learning_rate
    optimizer = torch.optim.SGD(
        model.parameters(), rate, config.momentum, weight_decay=config.weight_decay, nesterov=config.nesterov
    )
    epoch, seconds = int(state["epoch"]), float(state["seconds"])
    if epoch:
        model.load_state_dict(run.load(net.checkpoint).tensors)
        optimizer.load_state_dict(state["optimizer"])
    schedule = partial(config.learning_rate_factor, warmup=net.warmup)
    saved_at = time.monotonic()
    while epoch < config.epochs:
        started = time.monotonic()
        # What an epoch draws depends on its number, so that a resumed training draws the same.
        coins.set_state(generator(net.seed, "coins", net.name, epoch).get_state())
        draws.set_state(generator(net.seed, "images", epoch).get_state())
        model.train()
        seen = [_epoch(config, net, parts, epoch, draws)]
        learning = train(model, seen, optimizer, schedule=schedule, clip=config.clip, first_epoch=epoch)
        loss = torch.stack([step.loss for step in learning]).double().mean().item()
        epoch, seconds = epoch + 1, seconds + time.monotonic() - started
        run.log(epoch, {"train_loss": loss}, site=net.name, member=net.seed)
        if epoch == config.epochs:
            # Written before the checkpoint says that the net is done.
            told = {"test_error": error_rate(model, parts.test.images, parts.test.labels), "seconds": seconds}
            run.log(epoch, told, site=net.name, member=net.seed)
        if epoch == config.epochs or time.monotonic() - saved_at > _SAVE_EVERY_S:
            _save(_recipe(config, net, parts), net, model, optimizer, run, epoch, seconds)
            saved_at = time.monotonic()
        try:
            progress.advance(net.cost * len(parts.train), f"{net.name}, seed {net.seed}, epoch {epoch}")
        except KeyboardInterrupt:
            # Only here: an interrupt inside an epoch leaves weights that belong to no epoch.
            _save(_recipe(config, net, parts), net, model, optimizer, run, epoch, seconds)
            raise


def trained(config: ImageStudy, net: Net, parts: Parts, run: Run | RunReader) -> nn.Module:
    """The trained net out of the run folder, in evaluation mode.

    Raises:
        CheckpointError: if it is not there, or of another net.
    """
    model = _built(net, parts, torch.Generator())
    try:
        model.load_state_dict(run.load(net.checkpoint).tensors)
    except RuntimeError as error:
        raise CheckpointError(f"the checkpoint {net.checkpoint!r} is of another net: {error}") from error
    return model.to(config.device).eval()


def passes(images: Tensor, labels: Tensor, at_once: int = _EVALUATED_AT_ONCE) -> list[tuple[Tensor, Tensor]]:
    """The examples in batches as large as is handy for looking at them."""
    return list(zip(torch.split(images, at_once), torch.split(labels, at_once), strict=True))


def error_rate(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of the examples that the net gets wrong, in evaluation mode."""
    model.eval()
    with torch.no_grad():
        wrong = sum(int((model(x).argmax(dim=-1) != y).sum()) for x, y in passes(images, labels))
    return wrong / len(labels)


def guessing_error(labels: Tensor) -> float:
    """The error of always saying the most frequent class.

    >>> import torch
    >>> guessing_error(torch.tensor([0, 0, 1, 2]))
    0.5
    """
    return 1.0 - float(labels.bincount().max()) / len(labels)


def _built(net: Net, parts: Parts, coins: torch.Generator) -> nn.Module:
    return net.build(parts, generator(net.seed, "weights", net.weights or net.name), coins)


def _epoch(
    config: ImageStudy, net: Net, parts: Parts, epoch: int, draws: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    for indices in batches(len(parts.train), config.batch, net.seed, epoch):
        images, labels = parts.train.batch(indices)
        if config.augment:
            images = shifted_and_mirrored(images, draws, config.reach, config.fill)
        yield images, labels


# --- its checkpoint


def _save(
    recipe: Mapping[str, Any],
    net: Net,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    run: Run,
    epoch: int,
    seconds: float,
) -> None:
    state = {"epoch": epoch, "seconds": seconds, "recipe": dict(recipe)}
    if epoch < recipe["epochs"]:  # nobody needs the momentum of a net that is done
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


def _recipe(config: ImageStudy, net: Net, parts: Parts) -> dict[str, Any]:
    """Everything of data and training that decides the net's numbers."""
    fields = set(ImageStudy.model_fields) - NOT_PROTOCOL
    recipe = config.model_dump(mode="json", include=fields)
    if net.warmup is not None:
        recipe["warmup"] = net.warmup
    return recipe | {"seed": net.seed, "rate": net.learning_rate, "net": str(_built(net, parts, torch.Generator()))}


def _taken_over(config: ImageStudy, net: Net, parts: Parts, run: Run) -> bool:
    """Whether the run folder of `nets_of` had this net; it is in this one then.

    Raises:
        ConfigError: if it has a net of this name that was trained otherwise.
    """
    if config.nets_of is None:
        return False
    other = open_run(config.nets_of)
    if net.checkpoint not in other.checkpoints():
        return False
    there = other.load(net.checkpoint)
    state, wanted = there.state or {}, _recipe(config, net, parts)
    found = state.get("recipe", {})
    # A run from before a setting was there had its default.
    defaults = {key: field.default for key, field in ImageStudy.model_fields.items()}
    if different := sorted(key for key in wanted if found.get(key, defaults.get(key)) != wanted[key]):
        raise ConfigError(
            f"nets_of: the {net.name} of seed {net.seed} in {config.nets_of} was trained otherwise; "
            f"{', '.join(different)} differ. Give the folder of a run with the same, or leave nets_of out."
        )
    if state["epoch"] < config.epochs:
        return False
    told = other.table(site=net.name, member=net.seed)
    for step, quantity, value in zip(told["step"], told["quantity"], told["value"], strict=True):
        # It cost this run nothing.
        run.log(
            int(step), {str(quantity): 0.0 if quantity == "seconds" else float(value)}, site=net.name, member=net.seed
        )
    run.save(net.checkpoint, there.tensors, state=state)
    return True
