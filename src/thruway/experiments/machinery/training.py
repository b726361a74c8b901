"""Resumable training of one network on images."""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from thruway.data import batches, shifted_and_mirrored
from thruway.errors import CheckpointError, ConfigError
from thruway.experiments.machinery.image_config import ImageConfig
from thruway.experiments.machinery.images import ImageParts
from thruway.experiments.machinery.resumable import Progress, run_resumable, saved_state
from thruway.experiments.machinery.study import NOT_PROTOCOL
from thruway.runs import Run, RunReader, open_run
from thruway.seeding import generator
from thruway.train import train

__all__ = ["Net", "epochs_left", "error_rate", "evaluation_batches", "guessing_error", "train_net", "trained_net"]

_EVALUATION_BATCH = 500  # examples


@dataclass(frozen=True)
class Net:
    """A network to be trained.

    Attributes:
        name: kind of network, such as "resnet". Name and seed form the name of the checkpoint.
        seed: seed of the weights, of the random numbers drawn in training, and of the order of the examples.
        build: function (data, weights, coins) that returns the network. `weights` and `coins` are generators for the
            initial weights and for random numbers drawn during training, such as dropout masks.
        learning_rate: learning rate. If None, that of the config.
        warmup: number of epochs, from the first one on, with a tenth of the learning rate. If None, that of the config.
        weights: name of the stream of initial weights. Networks with the same seed and stream start from the same
            random numbers. If "", `name` is used.
        cost: cost of one training example, in a unit common to all networks of the study.
    """

    name: str
    seed: int
    build: Callable[[ImageParts, torch.Generator, torch.Generator], nn.Module]
    learning_rate: float | None = None
    warmup: int | None = None
    weights: str = ""
    cost: float = 1.0

    @property
    def checkpoint(self) -> str:
        """Name of the checkpoint."""
        return f"net-{self.name}-{self.seed}"

    def built(self, parts: ImageParts, coins: torch.Generator | None = None) -> nn.Module:
        """Return the network with its initial weights."""
        weights = generator(self.seed, "weights", self.weights or self.name)
        model = self.build(parts, weights, torch.Generator() if coins is None else coins)
        if not isinstance(model, nn.Module):
            raise ConfigError(f"{self.name}: build returned {type(model).__name__}, but must return a torch.nn.Module.")
        return model


def epochs_left(config: ImageConfig, net: Net, run: Run) -> int:
    """Return the number of epochs that remain to be trained."""
    return config.epochs - int(saved_state(run, net.checkpoint, epoch=0)["epoch"])


def train_net(config: ImageConfig, net: Net, parts: ImageParts, run: Run, progress: Progress) -> None:
    """Train one network, resuming from its checkpoint, and log its losses.

    The mean training loss is logged after each epoch; the test error and the duration in seconds are logged at the end.
    """
    state = saved_state(run, net.checkpoint, epoch=0, seconds=0.0)
    if not state["epoch"] and _reused(config, net, parts, run):
        progress.advance(net.cost * config.epochs * len(parts.train), f"{net.name}, seed {net.seed}, reused")
        return
    coins, draws = torch.Generator(), torch.Generator()
    model = net.built(parts, coins).to(config.device)
    rate = config.learning_rate if net.learning_rate is None else net.learning_rate
    optimizer = torch.optim.SGD(
        model.parameters(), rate, config.momentum, weight_decay=config.weight_decay, nesterov=config.nesterov
    )
    if state["epoch"]:
        model.load_state_dict(run.load(net.checkpoint).tensors)
        optimizer.load_state_dict(state.pop("optimizer"))
    schedule = partial(config.learning_rate_factor, warmup=net.warmup)
    recipe = _recipe(config, net, parts)

    def epochs() -> Iterator[tuple[float, str]]:
        for epoch in range(int(state["epoch"]), config.epochs):
            started = time.monotonic()
            # What an epoch draws depends on its number, so that a resumed training draws the same.
            coins.set_state(generator(net.seed, "coins", net.name, epoch).get_state())
            draws.set_state(generator(net.seed, "images", epoch).get_state())
            model.train()
            examples = [_epoch(config, net, parts, epoch, draws)]
            steps = train(model, examples, optimizer, schedule=schedule, clip=config.clip, first_epoch=epoch)
            loss = torch.stack([step.loss for step in steps]).double().mean().item()
            state["epoch"], state["seconds"] = epoch + 1, state["seconds"] + time.monotonic() - started
            run.log(epoch + 1, {"train_loss": loss}, site=net.name, member=net.seed)
            if epoch + 1 == config.epochs:  # logged before a checkpoint says that the network is done
                test_error = error_rate(model, parts.test.images, parts.test.labels)
                final = {"test_error": test_error, "seconds": state["seconds"]}
                run.log(epoch + 1, final, site=net.name, member=net.seed)
            yield net.cost * len(parts.train), f"{net.name}, seed {net.seed}, epoch {epoch + 1}"

    def save() -> None:
        # A finished network does not need its momentum.
        momentum = {} if state["epoch"] == config.epochs else {"optimizer": optimizer.state_dict()}
        run.save(net.checkpoint, model.state_dict(), state={**state, "recipe": recipe, **momentum})

    run_resumable(epochs(), save, progress)


def trained_net(config: ImageConfig, net: Net, parts: ImageParts, run: Run | RunReader) -> nn.Module:
    """Load a trained network from the run folder, in evaluation mode.

    Raises:
        CheckpointError: if the checkpoint is missing, or belongs to another network.
    """
    model = net.built(parts)
    try:
        model.load_state_dict(run.load(net.checkpoint).tensors)
    except RuntimeError as error:
        raise CheckpointError(f"the checkpoint {net.checkpoint!r} belongs to another network: {error}") from error
    return model.to(config.device).eval()


def evaluation_batches(images: Tensor, labels: Tensor, size: int = _EVALUATION_BATCH) -> list[tuple[Tensor, Tensor]]:
    """Split the examples into batches (images, labels) of at most `size`."""
    return list(zip(torch.split(images, size), torch.split(labels, size), strict=True))


def error_rate(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of the examples that the network classifies wrongly, in evaluation mode."""
    model.eval()
    with torch.no_grad():
        wrong = sum(int((model(x).argmax(dim=-1) != y).sum()) for x, y in evaluation_batches(images, labels))
    return wrong / len(labels)


def guessing_error(labels: Tensor) -> float:
    """Return the error of always predicting the most frequent class.

    >>> import torch
    >>> guessing_error(torch.tensor([0, 0, 1, 2]))
    0.5
    """
    return 1.0 - float(labels.bincount().max()) / len(labels)


def _epoch(
    config: ImageConfig, net: Net, parts: ImageParts, epoch: int, draws: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    for indices in batches(len(parts.train), config.batch, net.seed, epoch):
        images, labels = parts.train.batch(indices)
        if config.augment:
            images = shifted_and_mirrored(images, draws, config.reach, config.fill)
        yield images, labels


# --- networks of another run

# Module classes that had another name in version 0.1.0: a stored recipe has the text of the network's modules.
_RENAMED = {"StatesTap()": "StatesHookPoint()", "GradientsTap()": "GradientsHookPoint()"}


def _recipe(config: ImageConfig, net: Net, parts: ImageParts) -> dict[str, Any]:
    """Return all settings of data and training that determine the weights of the network."""
    recipe = config.model_dump(mode="json", include=set(ImageConfig.model_fields) - NOT_PROTOCOL)
    if net.warmup is not None:
        recipe["warmup"] = net.warmup
    recipe |= {"seed": net.seed, "rate": net.learning_rate, "net": str(net.built(parts))}
    if config.data == "folder":  # the name does not say which images they are
        recipe["images"] = _digest(parts.train.images, parts.train.labels)
    return recipe


def _digest(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _reused(config: ImageConfig, net: Net, parts: ImageParts, run: Run) -> bool:
    """Copy the trained network from the run folder `nets_of`. Returns False if that run does not have it.

    Raises:
        ConfigError: if that run has a network of this name with other settings.
    """
    if config.nets_of is None:
        return False
    other = open_run(config.nets_of)
    if net.checkpoint not in other.checkpoints():
        return False
    there = other.load(net.checkpoint)
    state, wanted = there.state or {}, _recipe(config, net, parts)
    found = dict(state.get("recipe", {}))
    for old, new in _RENAMED.items():
        found["net"] = found.get("net", "").replace(old, new)
    # A run from before a setting existed had its default.
    defaults = {key: field.default for key, field in ImageConfig.model_fields.items()}
    if different := sorted(key for key in wanted if found.get(key, defaults.get(key)) != wanted[key]):
        raise ConfigError(
            f"nets_of: the {net.name} of seed {net.seed} in {config.nets_of} was trained with other settings: "
            f"{', '.join(different)} differ. Give the folder of a run with the same settings, or omit nets_of."
        )
    if state["epoch"] < config.epochs:
        return False
    logged = other.table(site=net.name, member=net.seed)
    for step, quantity, value in zip(logged["step"], logged["quantity"], logged["value"], strict=True):
        # It cost this run no time.
        seconds_or_value = 0.0 if quantity == "seconds" else float(value)
        run.log(int(step), {str(quantity): seconds_or_value}, site=net.name, member=net.seed)
    run.save(net.checkpoint, there.tensors, state=state)
    return True
