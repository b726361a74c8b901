"""Stages of a run: networks trained together on the same examples, pre-training, and the SVM."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from thruway.experiments.glorot2010.errors import PAIRS, Choice, Config, Net, final_nets, fixed_nets, search_nets
from thruway.experiments.glorot2010.streams import Examples, Finite, Parts, Source
from thruway.experiments.machinery import Progress
from thruway.experiments.machinery.resumable import run_resumable, saved_state
from thruway.experiments.methods import Fit, PlainNets, denoise_step_, fit_rbf_svm, layers_of
from thruway.init import initialize
from thruway.networks import mlp
from thruway.networks.mlp import MLP
from thruway.runs import Run
from thruway.seeding import derive, generator

__all__ = [
    "SAVE_EVERY_S",
    "Group",
    "Stage",
    "build_nets",
    "chunk",
    "fit_svms",
    "groups",
    "new_net",
    "pieces",
    "pretrain",
    "pretraining_work",
    "stages_of",
    "stream",
    "svm_work",
    "work",
]

SAVE_EVERY_S = 60.0

# Updates between two moments at which a run can be interrupted; the examples of this many are in memory at a time.
_PIECE = 500
# Work of a forward pass on large batches, in updates of ten examples; measured.
_EVALUATION_WORK = 0.025


@dataclass(frozen=True)
class Stage:
    """Networks that train for the same number of updates, and the examples on which they are evaluated."""

    name: str
    nets: tuple[Net, ...]
    updates: int
    source: Source
    measured: Mapping[str, Examples]  # quantity -> examples


class Group(NamedTuple):
    """Networks of the same shape, which can be trained together."""

    activation: str
    depth: int
    nets: tuple[Net, ...]


def stages_of(config: Config, parts: Parts, chosen: Mapping[str, Choice] | None) -> dict[str, Stage]:
    """Return the stages by name, including the final stage only if depths and rates have been chosen."""
    both = {"valid_error": parts.valid, "test_error": parts.test}
    stages = [Stage("search", search_nets(config), config.search_updates, parts.source, {"valid_error": parts.valid})]
    if chosen is not None:
        stages.append(Stage("final", final_nets(config, chosen), config.updates, parts.source, both))
    if parts.fixed is not None:
        stages.append(Stage("fixed", fixed_nets(config), config.fixed_updates, Finite(*parts.fixed), both))
    return {stage.name: stage for stage in stages}


def groups(nets: Sequence[Net]) -> list[Group]:
    """Group the networks by activation and depth, in a fixed order."""
    found: dict[tuple[str, int], list[Net]] = {}
    for net in nets:
        found.setdefault((PAIRS[net.pair].activation, net.depth), []).append(net)
    return [Group(activation, depth, tuple(members)) for (activation, depth), members in sorted(found.items())]


def new_net(config: Config, parts: Parts, pair: str, depth: int, stage: str, seed: int) -> MLP:
    """Build a network. All pairs of a seed start from the same random numbers, scaled by their scheme."""
    activation, scheme = PAIRS[pair].activation, PAIRS[pair].scheme
    rng = generator(seed, "weights", stage, depth)
    net = mlp("plain", depth, config.width, parts.inputs, parts.classes, activation=activation, generator=rng)
    initialize(net, scheme, generator=generator(seed, "weights", stage, depth))
    return net.to(config.device)


def build_nets(config: Config, group: Group, parts: Parts, pretrained: Mapping[str, Tensor]) -> PlainNets:
    """Build the networks of a group, with the hidden layers of pre-trained ones taken from `pretrained`."""
    models = []
    for net in group.nets:
        model = new_net(config, parts, net.pair, net.depth, net.stage, net.seed)
        if PAIRS[net.pair].is_pretrained:
            member = 0 if net.stage == "search" else 1 + net.member
            for layer, (weight, bias) in enumerate(layers_of(model)[:-1]):
                weight.data.copy_(pretrained[f"weight/{layer}"][member])
                bias.data.copy_(pretrained[f"bias/{layer}"][member])
        models.append(model)
    return PlainNets(group.activation, models, [net.rate for net in group.nets])


def stream(stage: str, seed: int) -> int:
    """Return the seed of the training examples that the networks of `seed` see in a stage."""
    return derive(seed, "glorot2010.errors", stage) % 2**31


def chunk(stage: Stage, config: Config, first: int, end: int) -> tuple[dict[int, int], Tensor, Tensor]:
    """Draw the examples of updates first .. end.

    Returns:
        The index of each seed; inputs, (updates, seeds, batch, inputs); and labels, (updates, seeds, batch).
    """
    seeds = sorted({net.seed for net in stage.nets})
    count = end - first
    drawn = [stage.source.draw(stream(stage.name, s), first * config.batch, count * config.batch) for s in seeds]
    inputs = torch.stack([x.view(count, config.batch, -1) for x, _ in drawn], dim=1)
    labels = torch.stack([y.view(count, config.batch) for _, y in drawn], dim=1)
    return {seed: place for place, seed in enumerate(seeds)}, inputs, labels


def pieces(updates: int, evaluations: int, done: int = 0) -> Iterator[tuple[int, int, bool]]:
    """Split a training run, from update `done` on, into pieces (first, end, is_evaluated).

    >>> list(pieces(1000, 2))
    [(0, 500, True), (500, 1000, True)]
    >>> list(pieces(1800, 2, done=500))
    [(500, 900, True), (900, 1400, False), (1400, 1800, True)]
    """
    stops = {updates * number // evaluations for number in range(1, evaluations + 1)}
    while done < updates:
        end = min(done + _PIECE, min(stop for stop in stops if stop > done))
        yield done, end, end in stops
        done = end


def work(config: Config, stage: Stage, parts: Parts, first: int, end: int, is_evaluated: bool) -> float:
    """Return the work of a piece of a stage, in updates of one weight by one batch. It is proportional to time."""
    # The depths that the search will choose are not known when the work is added up: networks of others do not count.
    counted = [net for net in stage.nets if stage.name != "final" or net.depth == config.deepest]
    weights = sum(config.width * (parts.inputs + (net.depth - 1) * config.width + parts.classes) for net in counted)
    drawn = len({net.seed for net in stage.nets}) * config.batch * stage.source.work
    evaluated = sum(len(labels) for _, labels in stage.measured.values()) * is_evaluated
    return (end - first) * (weights + drawn) + evaluated * weights * _EVALUATION_WORK


# --- pre-training: the hidden layers one after the other, as denoising autoencoders

_PRETRAINING, _DECODER = "pretraining", "decoder_bias"


def pretrain(config: Config, parts: Parts, run: Run, progress: Progress) -> Mapping[str, Tensor]:
    """Pre-train the networks, resuming from the run folder.

    Returns:
        The weights of all pre-trained networks, "weight/<layer>" and "bias/<layer>", (members, ...). Member 0 is for
        the search; the others are for the final networks, in the order of their seeds. Empty if the config has no
        pre-trained pair.
    """
    pair = _pretrained_pair(config)
    if pair is None:
        return {}
    models = [new_net(config, parts, pair, config.deepest, stage, seed) for stage, seed in _starts(config)]
    nets = PlainNets(PAIRS[pair].activation, models, [config.pretrain_rate] * len(models))
    state = saved_state(run, _PRETRAINING, layer=0, update=0)  # layers done, and updates done of the next one
    decoder_bias = _new_decoder(config, nets, state["layer"])
    if state["layer"] or state["update"]:
        tensors = dict(run.load(_PRETRAINING).tensors)
        decoder_bias.copy_(tensors.pop(_DECODER))
        nets.load(tensors)

    def steps() -> Iterator[tuple[float, str]]:
        nonlocal decoder_bias
        for layer in range(int(state["layer"]), config.deepest):
            for first, end, is_last in pieces(config.pretrain_updates, 1, int(state["update"])):
                errors = _train_autoencoders(config, parts, nets, layer, decoder_bias, first, end)
                logged = {"reconstruction_error": errors.tolist()}
                run.log(end, logged, site=f"pretraining/{layer + 1}", member=list(range(len(nets))))
                state["update"] = end
                if is_last:
                    state["layer"], state["update"] = layer + 1, 0
                    decoder_bias = _new_decoder(config, nets, layer + 1)
                doing = f"pre-training layer {layer + 1}, update {end} of {config.pretrain_updates}"
                yield _pretraining_work(config, parts, end - first), doing

    def save() -> None:
        run.save(_PRETRAINING, {**nets.tensors(), _DECODER: decoder_bias}, state=state)

    run_resumable(steps(), save, progress, SAVE_EVERY_S)
    return nets.tensors()


def pretraining_work(config: Config, parts: Parts, run: Run) -> float:
    """Return the remaining work, in the unit of `work`."""
    if _pretrained_pair(config) is None:
        return 0.0
    state = saved_state(run, _PRETRAINING, layer=0, update=0)
    return _pretraining_work(
        config, parts, (config.deepest - state["layer"]) * config.pretrain_updates - state["update"]
    )


def _train_autoencoders(
    config: Config, parts: Parts, nets: PlainNets, layer: int, decoder_bias: Tensor, first: int, end: int
) -> Tensor:
    """Make updates first .. end of one layer, and return their mean reconstruction error, (members,)."""
    count, drawn, noise, errors = end - first, [], [], []
    for stage, seed in _starts(config):
        inputs, _ = parts.source.draw(stream(f"pretraining {stage}", seed), first * config.batch, count * config.batch)
        drawn.append(inputs.view(count, config.batch, -1))
        noise.append(generator(seed, "noise", stage, layer, first))
    for batch in torch.stack(drawn, dim=1):
        clean = nets.hidden(batch, layer)
        # Drawn on the CPU, so that every device drops the same numbers.
        kept = torch.stack([torch.rand(clean.shape[1:], generator=each) >= config.noise for each in noise])
        noisy = clean * kept.to(clean.device)
        errors.append(denoise_step_(nets, layer, decoder_bias, clean, noisy, config.pretrain_rate))
    return torch.stack(errors).mean(dim=0)


def _pretrained_pair(config: Config) -> str | None:
    return next((pair for pair in config.pairs if PAIRS[pair].is_pretrained), None)


def _starts(config: Config) -> list[tuple[str, int]]:
    """Return the stage and the seed of the network that each member belongs to."""
    return [("search", config.seed), *(("final", config.seed + member) for member in range(config.seeds))]


def _new_decoder(config: Config, nets: PlainNets, layer: int) -> Tensor:
    """Return the bias of the decoder before a layer is trained. After the last layer it is not used."""
    weight = nets.weights[min(layer, config.deepest - 1)]
    return weight.new_zeros(len(nets), weight.shape[2])


def _pretraining_work(config: Config, parts: Parts, updates: int) -> float:
    weights = config.width * (parts.inputs + (config.deepest - 1) * config.width) / config.deepest
    # Encoding, decoding, both gradients, the layers below, and the noise.
    return updates * (1 + config.seeds) * (6 * weights + config.batch * parts.source.work)


# --- the SVM on the fixed training set

# Work of a kernel value per input, in updates of a weight; measured up to ten thousand examples.
_KERNEL_WORK = 0.06


def fit_svms(config: Config, parts: Parts, run: Run, progress: Progress) -> None:
    """Fit the SVMs of the grid that the run folder does not contain yet. Each is stored once it is complete."""
    if parts.fixed is None:
        return
    train, fits, grid = parts.fixed, _stored_fits(run), _grid(config)

    def steps() -> Iterator[tuple[float, str]]:
        for member in range(len(fits), len(grid)):
            fits.append(fit_rbf_svm(train, parts.valid, parts.test, *grid[member]))
            run.log(0, fits[-1]._asdict(), site="fixed/svm", member=member)
            yield _svm_work(config, parts), f"SVM {member + 1} of {len(grid)}"

    def save() -> None:
        run.save("svm", {"fits": torch.tensor(len(fits))}, state={"fits": [list(fit) for fit in fits]})

    run_resumable(steps(), save, progress, every=0.0)


def svm_work(config: Config, parts: Parts, run: Run) -> float:
    """Return the remaining work, in the unit of `work`."""
    return 0.0 if parts.fixed is None else (len(_grid(config)) - len(_stored_fits(run))) * _svm_work(config, parts)


def _grid(config: Config) -> list[tuple[float, float]]:
    return [(cost, gamma) for cost in config.svm_costs for gamma in config.svm_gammas]


def _stored_fits(run: Run) -> list[Fit]:
    return [Fit(*numbers) for numbers in saved_state(run, "svm", fits=[])["fits"]]


def _svm_work(config: Config, parts: Parts) -> float:
    # Kernel values among the training examples, and between them and the held-out ones.
    held_out = len(parts.valid[1]) + len(parts.test[1])
    return _KERNEL_WORK * config.fixed_examples * (config.fixed_examples + held_out) * parts.inputs
