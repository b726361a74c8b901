"""Layer-wise pre-training by denoising autoencoders, as used to initialize deep networks around 2010.

A layer encodes a corrupted input, and its transposed weights decode the clean one. The next layer is then trained on
the codes, and finally all layers are trained together on the labels.
"""

import torch
from torch import Tensor

from thruway.experiments.methods.plain_nets import PlainNets

__all__ = ["denoise_step_"]


def denoise_step_(
    nets: PlainNets, layer: int, decoder_bias: Tensor, clean: Tensor, noisy: Tensor, rate: float
) -> Tensor:
    """Make one SGD update of one layer of every network as a denoising autoencoder.

        h = f(W x' + b),  r = W^T h + c,  loss = |r - x|^2 / 2, the mean over the batch

    Args:
        nets: the networks; weight and bias of the layer are changed in place.
        layer: number of the hidden layer, from 0.
        decoder_bias: c, (members, inputs of the layer), changed in place.
        clean: x, (members, batch, inputs of the layer).
        noisy: x', equal to x with some entries set to 0.
        rate: learning rate.
    Returns:
        Reconstruction error of each member before the update, |r - x|^2 / |x|^2, (members,). It is 1 if r is zero.
    Source:
        Vincent, Larochelle, Bengio & Manzagol 2008, sec. 2.3 and 3; the linear decoder with squared error, which
        suits inputs on any scale, is ours.

    >>> from thruway.networks import mlp
    >>> nets = PlainNets("tanh", [mlp("plain", 1, 3, 4, 2, activation="tanh")], [0.1])
    >>> x = torch.ones(1, 5, 4)
    >>> errors = [denoise_step_(nets, 0, bias, x, x, 0.1).item() for bias in [torch.zeros(1, 4)] for _ in range(50)]
    >>> errors[-1] < 0.1 * errors[0]
    True
    """
    weight, bias = nets.weights[layer], nets.biases[layer]
    codes = nets.activation(torch.baddbmm(bias.unsqueeze(1), noisy, weight.mT))
    missed = torch.baddbmm(decoder_bias.unsqueeze(1), codes, weight).sub_(clean)
    error = missed.square().sum(dim=(1, 2)) / clean.square().sum(dim=(1, 2))
    delta = missed.mul_(rate / clean.shape[1])
    below = torch.bmm(delta, weight.mT).mul_(nets.slope(codes))
    # The weight is used twice, so its gradient has two terms.
    weight.baddbmm_(codes.mT, delta, alpha=-1).baddbmm_(below.mT, noisy, alpha=-1)
    bias.sub_(below.sum(dim=1))
    decoder_bias.sub_(delta.sum(dim=1))
    return error
