"""Cases of generative adversarial networks and autoencoders, faulty and healthy."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.corpus.case import Batch, Case, Draw, Training
from tests.corpus.data import digits
from tests.corpus.evidence import all_of, true
from tests.corpus.loops import mse, scheduled
from tests.corpus.mlp_cases import GROWN, SHRUNK, nan_at
from tests.corpus.nets import mlp
from tests.corpus.optimizers import adam, sgd
from tests.corpus.proofs import (
    alive,
    changes,
    dead,
    fault_costs,
    first_update,
    gradient_ratio,
    inputs,
    learns,
    non_finite,
    share_of_values,
    sizes,
    steps_raise_the_loss,
    stuck,
    unchanged,
)

# Adversarial networks on points of a ring


class Gan(nn.Module):
    """A generator and a discriminator. One of them is watched."""

    def __init__(self, draw: Draw):
        super().__init__()
        width = draw.integer("width", 28, 40)
        self.generator = nn.Sequential(
            nn.Linear(4, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)
        )
        self.discriminator = nn.Sequential(
            nn.Linear(2, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, 1)
        )


def ring(steps: int = 60, batch: int = 64) -> Callable[[Draw], list[Batch]]:
    """Return points around a ring, and noise for the generator."""

    def data(draw: Draw) -> list[Batch]:
        g = draw.generator("points")
        batches = []
        for _ in range(steps):
            angle = 6.2832 * torch.rand(batch, generator=g)
            points = torch.stack([angle.cos() + 2, angle.sin()], 1) + 0.05 * torch.randn(batch, 2, generator=g)
            batches.append((points, torch.randn(batch, 4, generator=g)))
        return batches

    return data


def _score(logits: Tensor, real: bool) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def adversarial(
    *, watched: str, rate: float = 0.003, zero_grad: bool = True, detach_fake: bool = False
) -> Callable[[Training], Iterator[float]]:
    """Return the loop of the DCGAN example. The optimizer of the training is that of the watched network."""

    def loop(training: Training) -> Iterator[float]:
        gan = training.model
        g, d = gan.generator, gan.discriminator
        other = torch.optim.Adam((d if watched == "generator" else g).parameters(), rate, betas=(0.5, 0.999))
        g_step, d_step = (training.optimizer, other) if watched == "generator" else (other, training.optimizer)
        for points, noise in training.batches:
            if zero_grad:
                d_step.zero_grad()
            fake = g(noise)
            d_loss = _score(d(points), True) + _score(d(fake.detach()), False)
            d_loss.backward()
            d_step.step()
            g_step.zero_grad()
            g_loss = _score(d(fake.detach() if detach_fake else fake), True)
            g_loss.backward()
            g_step.step()
            yield (g_loss if watched == "generator" else d_loss).item()

    return loop


def no_loss(_model: nn.Module, _batch: Batch) -> Tensor:
    """Stand-in: the loop of a GAN has its own losses."""
    return torch.zeros(())


def part(name: str) -> Callable[[nn.Module], nn.Module]:
    return lambda gan: getattr(gan, name)


def gan_adam(name: str, rate: float) -> Callable[[Draw, nn.Module], torch.optim.Optimizer]:
    return adam(rate, part=part(name), betas=(0.5, 0.999))


def moves_to_the_data(evidence) -> None:
    """The mean of the generated points ends nearer to that of the data, (2, 0), than it began."""
    record = evidence.record
    name = list(record.outputs[0])[-1]  # the root, which is called last
    first, last = (
        x[name].mean(0) - torch.tensor([2.0, 0.0], dtype=torch.float64) for x in (record.outputs[0], record.outputs[-1])
    )
    true(
        last.norm() < 0.7 * first.norm(), f"the distance to the data goes from {first.norm():.2f} to {last.norm():.2f}"
    )


def leftover_gradient(evidence) -> None:
    """The gradient of the discriminator contains that of the generator's loss: it is not the sum of its two passes."""
    record = evidence.record
    name = "4"
    for step in range(1, len(record.losses)):
        passes = [record.gradients[step][n].flatten(0, -2).sum(0) for n in (name, f"{name}#2")]
        now = record.weight_gradients[step][f"{name}.bias"]
        true(not torch.allclose(now, sum(passes), rtol=1e-6, atol=1e-9), f"the gradient of step {step} is fresh")


# Autoencoders


class VAE(nn.Module):
    """A variational autoencoder of digits in [0, 1]."""

    def __init__(self, draw: Draw, log_variance: float = 0.0):
        super().__init__()
        width = draw.integer("width", 40, 56)
        self.encoder = nn.Sequential(nn.Linear(64, width), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(width, 6), nn.Linear(width, 6)
        self.decoder = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 64), nn.Sigmoid())
        nn.init.constant_(self.log_variance.bias, log_variance)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.encoder(x)
        mean, log_variance = self.mean(h), self.log_variance(h)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        return self.decoder(z), mean, log_variance


def squared_elbo(model: nn.Module, batch: Batch) -> Tensor:
    y, mean, log_variance = model(batch[0])
    kl = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1).mean()
    return 10 * ((y - batch[0]) ** 2).sum(1).mean() + kl


def elbo(model: nn.Module, batch: Batch) -> Tensor:
    x = batch[0]
    y, mean, log_variance = model(x)
    kl = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1).mean()
    return F.binary_cross_entropy(y, x, reduction="none").sum(1).mean() + kl


class Autoencoder(nn.Module):
    """An encoder to a code and a decoder."""

    def __init__(
        self,
        draw: Draw,
        code: nn.Module | None = None,
        last: nn.Module | None = None,
        act: str = "relu",
        depth: int = 1,
    ):
        super().__init__()
        width = draw.integer("width", 40, 56)
        self.encoder = mlp(depth, width, classes=16, act=act)
        self.code = nn.Identity() if code is None else code
        self.decoder = mlp(depth, width, inputs=16, classes=64, act=act)
        self.last = nn.Identity() if last is None else last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.decoder(self.code(self.encoder(x))))


class Coded(nn.Module):
    """An autoencoder that also returns its code, for a penalty."""

    def __init__(self, draw: Draw):
        super().__init__()
        self.encoder, self.code = nn.Linear(64, draw.integer("width", 40, 56)), nn.ReLU()
        self.decoder = nn.Linear(self.encoder.out_features, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        code = self.code(self.encoder(x))
        return self.decoder(code), code


def sparse_code(weight: float) -> Callable[[nn.Module, Batch], Tensor]:
    def loss(model: nn.Module, batch: Batch) -> Tensor:
        y, code = model(batch[0])
        return F.mse_loss(y, batch[1]) + weight * code.mean()

    return loss


class Tied(nn.Module):
    """An autoencoder whose decoder is the transposed encoder."""

    def __init__(self, draw: Draw):
        super().__init__()
        self.encoder = nn.Linear(64, draw.integer("width", 20, 30))
        self.bias = nn.Parameter(torch.zeros(64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.encoder(x)) @ self.encoder.weight + self.bias


def denoise(model: nn.Module, batch: Batch) -> Tensor:
    return F.mse_loss(model(batch[0] + 0.5 * torch.randn_like(batch[0])), batch[1])


def dead_code(value: float) -> Callable[[Draw], nn.Module]:
    """Return a builder of autoencoders whose code is a ReLU with an extreme bias."""

    def build(draw: Draw) -> nn.Module:
        net = Autoencoder(draw, nn.ReLU())
        nn.init.constant_(net.encoder[-1].bias, value)
        return net

    return build


PIXELS = digits(40, targets="inputs")
UNIT = digits(50, standard=False, targets="inputs")

CASES = [
    # --- adversarial, faulty
    Case(
        "gan_generator_gets_no_gradient",
        "gan",
        Gan,
        ring(),
        no_loss,
        gan_adam("generator", 0.003),
        loop=adversarial(watched="generator", detach_fake=True),
        watched=part("generator"),
        symptoms=("frozen_parameters",),
        also=frozenset(("lr_too_low", "diverging")),
        sites=("*",),
        proof=unchanged("*"),
    ),
    Case(
        "gan_discriminator_keeps_gradients",
        "gan",
        Gan,
        ring(),
        no_loss,
        gan_adam("discriminator", 0.003),
        loop=adversarial(watched="discriminator", zero_grad=False),
        watched=part("discriminator"),
        symptoms=("gradients_accumulate",),
        also=frozenset(("lr_too_high", "diverging")),
        onset=(1, 1),
        proof=leftover_gradient,
    ),
    Case(
        "gan_discriminator_too_fast",
        "gan",
        Gan,
        ring(),
        no_loss,
        gan_adam("discriminator", 1.0),
        loop=adversarial(watched="discriminator"),
        watched=part("discriminator"),
        symptoms=("lr_too_high",),
        onset=(0, 4),
        also=GROWN | SHRUNK | {"exploding_activation", "exploding_gradient"},
        proof=all_of(
            first_update(above=0.5), sizes("the largest loss", lambda r: max(r.losses) / r.losses[0], above=10.0)
        ),
    ),
    # --- adversarial, healthy
    Case(
        "gan_discriminator",
        "gan",
        Gan,
        ring(),
        no_loss,
        gan_adam("discriminator", 0.003),
        loop=adversarial(watched="discriminator"),
        watched=part("discriminator"),
        tempting="the loss oscillates and does not fall to 0",
        proof=sizes("the last loss", lambda r: r.end, above=0.05, below=2.0),
    ),
    Case(
        "gan_generator",
        "gan",
        Gan,
        ring(80),
        no_loss,
        gan_adam("generator", 0.005),
        loop=adversarial(watched="generator"),
        watched=part("generator"),
        tempting="the loss rises while the discriminator learns",
        proof=moves_to_the_data,
    ),
    Case(
        "gan_discriminator_fast_generator",
        "gan",
        Gan,
        ring(80),
        no_loss,
        gan_adam("discriminator", 0.003),
        loop=adversarial(watched="discriminator", rate=0.01),
        watched=part("discriminator"),
        tempting="the loss rises again and again",
        proof=all_of(changes("*"), sizes("the last loss", lambda r: r.end, above=0.8, below=2.0)),
    ),
    # --- autoencoders, faulty
    Case(
        "autoencoder_deep_sigmoid",
        "autoencoder",
        lambda d: Autoencoder(d, act="sigmoid", depth=d.integer("depth", 5, 6)),
        PIXELS,
        mse,
        sgd(0.5),
        symptoms=("vanishing_gradient",),
        also=SHRUNK,
        cure={"build": Autoencoder, "optimizer": adam(0.005)},
        proof=all_of(gradient_ratio(below=1e-5), fault_costs(0.05)),
    ),
    Case(
        "autoencoder_dead_code",
        "autoencoder",
        dead_code(-15.0),
        PIXELS,
        mse,
        adam(0.003),
        symptoms=("dead_units", "dying_relu"),
        also=SHRUNK,
        sites=("code", "encoder*"),
        cure={"build": dead_code(0.0)},
        proof=all_of(dead("code", share=1.0), fault_costs(0.08)),
    ),
    Case(
        "autoencoder_code_dies_of_penalty",
        "autoencoder",
        Coded,
        digits(60, targets="inputs"),
        sparse_code(20.0),
        adam(0.02),
        symptoms=("dying_relu", "dead_units"),
        also=SHRUNK,
        sites=("code", "encoder*"),
        onset=(1, 12),
        cure={"loss": sparse_code(0.0)},
        proof=all_of(
            alive("code", most=0.1),
            dead("code", share=0.1, steps=slice(1, None)),
            dead("code", share=0.6, steps=slice(12, None)),
        ),
    ),
    Case(
        "autoencoder_decoder_forgotten",
        "autoencoder",
        Autoencoder,
        PIXELS,
        mse,
        adam(0.003, part=lambda m: m.encoder),
        symptoms=("frozen_parameters",),
        sites=("decoder*",),
        proof=all_of(unchanged("decoder.*"), changes("encoder.*")),
    ),
    Case(
        "autoencoder_too_fast",
        "autoencoder",
        Autoencoder,
        PIXELS,
        mse,
        adam(1.0),
        symptoms=("lr_too_high",),
        onset=(0, 3),
        also=GROWN | SHRUNK | {"exploding_activation", "exploding_gradient"},
        cure={"optimizer": adam(0.003)},
        proof=all_of(first_update(above=0.5), steps_raise_the_loss(1.0, 1), fault_costs()),
    ),
    Case(
        "autoencoder_too_slow",
        "autoencoder",
        Autoencoder,
        PIXELS,
        mse,
        sgd(1e-4),
        symptoms=("lr_too_low",),
        onset=(0, 20),
        cure={"optimizer": adam(0.005)},
        proof=all_of(stuck(0.12), fault_costs()),
    ),
    Case(
        "autoencoder_bytes",
        "autoencoder",
        Autoencoder,
        digits(standard=False, scale=255.0, targets="inputs"),
        mse,
        sgd(0.01),
        symptoms=("unscaled_input",),
        also=GROWN | SHRUNK | {"exploding_activation", "exploding_gradient"},
        proof=all_of(inputs(deviation_above=50), stuck(0.0)),
    ),
    Case(
        "autoencoder_output_saturated",
        "autoencoder",
        lambda d: Autoencoder(d, last=nn.Sigmoid()),
        digits(standard=False, scale=16.0, targets="inputs"),
        mse,
        sgd(0.3),
        symptoms=("saturated", "unscaled_input"),
        also=SHRUNK | {"dead_units", "lr_too_high"},
        sites=("last", "decoder*"),
        onset=(0, 40),
        cure={"data": digits(standard=False, targets="inputs"), "optimizer": adam(0.005)},
        proof=share_of_values("last", lambda x: (x > 0.99) | (x < 0.01), above=0.5, step=30),
    ),
    Case(
        "vae_missing_pixel",
        "autoencoder",
        VAE,
        nan_at(8, digits(standard=False, targets="inputs")),
        squared_elbo,
        adam(0.003),
        symptoms=("nan_or_inf",),
        also=GROWN,
        sites=("encoder*", "input*", ""),
        onset=(8, 8),
        proof=non_finite(8, sites="encoder.0"),
    ),
    # --- autoencoders, healthy
    Case(
        "autoencoder",
        "autoencoder",
        Autoencoder,
        digits(60, targets="inputs"),
        mse,
        adam(0.005),
        tempting="the loss stays above 0.2",
        proof=learns(0.3),
    ),
    Case(
        "autoencoder_sigmoid_output",
        "autoencoder",
        lambda d: Autoencoder(d, last=nn.Sigmoid()),
        UNIT,
        mse,
        adam(0.005),
        tempting="the output sigmoid is near 0 at the border",
        proof=learns(0.3),
    ),
    Case(
        "autoencoder_denoising",
        "autoencoder",
        Autoencoder,
        digits(60, targets="inputs"),
        denoise,
        adam(0.005),
        tempting="the loss is noisy",
        proof=learns(0.25),
    ),
    Case(
        "autoencoder_sparse_code",
        "autoencoder",
        Coded,
        digits(60, targets="inputs"),
        sparse_code(0.05),
        adam(0.005),
        tempting="a mild penalty makes the code sparse",
        proof=all_of(alive("code", most=0.2), learns(0.4)),
    ),
    Case(
        "autoencoder_tied",
        "autoencoder",
        Tied,
        digits(60, targets="inputs"),
        mse,
        adam(0.003),
        tempting="one weight is used twice",
        proof=learns(0.3),
    ),
    Case(
        "vae",
        "autoencoder",
        VAE,
        UNIT,
        elbo,
        adam(0.005),
        tempting="the KL term rises from 0",
        proof=learns(0.2),
    ),
    Case(
        "vae_kl_warm_up",
        "autoencoder",
        VAE,
        UNIT,
        elbo,
        adam(0.01),
        loop=scheduled(lambda done: min(1.0, 3 * done)),
        tempting="no update at step 0",
        proof=learns(0.2),
    ),
]
