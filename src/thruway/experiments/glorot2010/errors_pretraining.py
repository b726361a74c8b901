"""The stage before all others: the hidden layers of the pre-trained nets, one after the other, by autoencoders."""

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from thruway.experiments.experiment import Progress
from thruway.experiments.glorot2010.autoencoder import denoise_step_
from thruway.experiments.glorot2010.errors import PAIRS, Config
from thruway.experiments.glorot2010.errors_data import Parts
from thruway.experiments.glorot2010.errors_nets import PlainNets
from thruway.experiments.glorot2010.errors_stages import new_net, pieces, stream
from thruway.runs import Run
from thruway.seeding import generator

__all__ = ["pretrain", "pretraining_work"]

_SAVE_EVERY_S = 60.0
_DECODER = "decoder_bias"


def pretrain(config: Config, parts: Parts, run: Run, progress: Progress) -> Mapping[str, Tensor]:
    """The weights of every pre-trained net, "weight/<layer>" and "bias/<layer>", (members, ...).

    Member 0 is for the search, the others for the final nets in the order of their seeds. Empty if no pair of the
    config is pre-trained.
    """
    pair = _pretrained_pair(config)
    if pair is None:
        return {}
    models = [new_net(config, parts, pair, config.deepest, stage, seed) for stage, seed in _starts(config)]
    nets = PlainNets(PAIRS[pair].activation, models, [config.pretrain_rate] * len(models))
    layer, update, decoder_bias = _restore(config, nets, run)
    saved_at = time.monotonic()
    while layer < config.deepest:
        for first, end, is_last in pieces(config.pretrain_updates, 1, update):
            error = _train(config, parts, nets, layer, decoder_bias, first, end)
            told = {"reconstruction_error": error.tolist()}
            run.log(end, told, site=f"pretraining/{layer + 1}", member=list(range(len(nets))))
            doing = f"pre-training layer {layer + 1}, update {end} of {config.pretrain_updates}"
            update = end
            if is_last:
                layer, update = layer + 1, 0
                decoder_bias = _decoder(config, nets, layer)
            if layer == config.deepest or time.monotonic() - saved_at > _SAVE_EVERY_S:
                _save(nets, decoder_bias, run, layer, update)
                saved_at = time.monotonic()
            try:
                progress.advance(_work(config, parts, end - first), doing)
            except KeyboardInterrupt:
                _save(nets, decoder_bias, run, layer, update)
                raise
    return nets.tensors()


def pretraining_work(config: Config, parts: Parts, run: Run) -> float:
    """What is left of it, in weights updated by one batch."""
    if _pretrained_pair(config) is None:
        return 0.0
    layer, update = _done(run)
    return _work(config, parts, (config.deepest - layer) * config.pretrain_updates - update)


def _train(
    config: Config, parts: Parts, nets: PlainNets, layer: int, decoder_bias: Tensor, first: int, end: int
) -> Tensor:
    """A piece of the training of one layer; the mean reconstruction error in it, (members,)."""
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
    """(stage, seed) of the net that each member is for."""
    return [("search", config.seed), *(("final", config.seed + member) for member in range(config.seeds))]


def _decoder(config: Config, nets: PlainNets, layer: int) -> Tensor:
    """The decoder's bias as a layer's training begins; after the last layer it stands for nothing."""
    weight = nets.weights[min(layer, config.deepest - 1)]
    return weight.new_zeros(len(nets), weight.shape[2])


def _work(config: Config, parts: Parts, updates: int) -> float:
    weights = config.width * (parts.inputs + (config.deepest - 1) * config.width) / config.deepest
    # Coding, decoding, both gradients, the layers below, and the noise.
    return updates * (1 + config.seeds) * (6 * weights + config.batch * parts.source.work)


def _done(run: Run) -> tuple[int, int]:
    """(layers done, updates of the next one done)."""
    state = run.load("pretraining").state if "pretraining" in run.checkpoints() else None
    return (int(state["layer"]), int(state["update"])) if state else (0, 0)


def _save(nets: PlainNets, decoder_bias: Tensor, run: Run, layer: int, update: int) -> None:
    run.save("pretraining", {**nets.tensors(), _DECODER: decoder_bias}, state={"layer": layer, "update": update})


def _restore(config: Config, nets: PlainNets, run: Run) -> tuple[int, int, Tensor]:
    """(layers done, updates of the next one done, its decoder's bias), and the weights into the nets."""
    layer, update = _done(run)
    decoder_bias = _decoder(config, nets, layer)
    if layer or update:
        tensors = dict(run.load("pretraining").tensors)
        decoder_bias.copy_(tensors.pop(_DECODER))
        nets.load(tensors)
    return layer, update, decoder_bias
