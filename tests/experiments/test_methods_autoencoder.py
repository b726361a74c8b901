"""The update of a denoising autoencoder, compared with autograd in float64."""

import pytest
import torch
from torch.testing import assert_close

from thruway.activations import activation
from thruway.experiments.methods import SLOPES, PlainNets, denoise_step_
from thruway.networks import mlp


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("name", SLOPES)
def test_an_update_is_the_gradient_of_the_reconstruction_error(name, layer):
    rng = torch.Generator().manual_seed(5)
    nets = PlainNets(
        name, [mlp("plain", 2, 5, 7, 3, name, dtype=torch.float64, generator=rng) for _ in range(3)], [1.0] * 3
    )
    wide = nets.weights[layer].shape[2]
    decoder = torch.randn(3, wide, generator=rng, dtype=torch.float64)
    twins = [
        [t[m].clone().requires_grad_() for t in (nets.weights[layer], nets.biases[layer], decoder)] for m in range(3)
    ]
    untouched = [tensor.clone() for tensor in (nets.weights[1 - layer], nets.biases[1 - layer])]
    for _ in range(4):
        clean = torch.randn(3, 6, wide, generator=rng, dtype=torch.float64)
        noisy = clean * (torch.rand(clean.shape, generator=rng) > 0.3)
        errors = denoise_step_(nets, layer, decoder, clean, noisy, 0.05)
        for member, (weight, bias, back) in enumerate(twins):
            restored = activation(name).function(noisy[member] @ weight.T + bias) @ weight + back
            squared = (restored - clean[member]).square().sum()
            assert_close(errors[member], (squared / clean[member].square().sum()).detach(), rtol=1e-12, atol=0)
            gradients = torch.autograd.grad(squared / 2 / 6, [weight, bias, back])
            with torch.no_grad():
                for tensor, gradient in zip((weight, bias, back), gradients, strict=True):
                    tensor -= 0.05 * gradient
    for member, (weight, bias, back) in enumerate(twins):
        # float64 sums of a few terms in another order.
        assert_close(nets.weights[layer][member], weight.detach(), rtol=1e-11, atol=1e-13)
        assert_close(nets.biases[layer][member], bias.detach(), rtol=1e-11, atol=1e-13)
        assert_close(decoder[member], back.detach(), rtol=1e-11, atol=1e-13)
    for tensor, before in zip((nets.weights[1 - layer], nets.biases[1 - layer]), untouched, strict=True):
        assert torch.equal(tensor, before)
