"""Convolutional GAN: two networks, two Adam optimizers, weights drawn by class name, BCELoss on a sigmoid."""

import argparse

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--niter", type=int, default=30)
parser.add_argument("--lr", type=float, default=0.0002)
parser.add_argument("--beta1", type=float, default=0.5)
parser.add_argument("--fault", default="")
opt = parser.parse_args()
torch.manual_seed(7)
nz, ngf, ndf, batch_size = 16, 16, 16, 16


def weights_init(m):
    classname = m.__class__.__name__
    if "Conv" in classname:
        nn.init.normal_(m.weight, 0.0, 0.02)
    elif "BatchNorm" in classname:
        nn.init.normal_(m.weight, 1.0, 0.02)
        nn.init.zeros_(m.bias)


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(nz, ngf * 2, 4, 1, 0, bias=False),
            nn.BatchNorm2d(ngf * 2),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 2, ngf, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ngf),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf, 3, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, noise):
        return self.main(noise)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(3, ndf, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf, ndf * 2, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ndf * 2),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf * 2, 1, 4, 1, 0, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, image):
        return self.main(image).view(-1, 1).squeeze(1)


net_g = Generator()
net_g.apply(weights_init)
net_d = Discriminator()
net_d.apply(weights_init)
criterion = nn.BCELoss()
fixed_noise = torch.randn(4, nz, 1, 1)
optimizer_d = torch.optim.Adam(net_d.parameters(), lr=opt.lr, betas=(opt.beta1, 0.999))
of_generator = net_d if opt.fault == "wrong_parameters" else net_g
optimizer_g = torch.optim.Adam(of_generator.parameters(), lr=opt.lr, betas=(opt.beta1, 0.999))
shapes = torch.rand(8, 3, 16, 16) * 2 - 1

for i in range(opt.niter):
    # discriminator: real, then generated images
    net_d.zero_grad()
    real = shapes[torch.randint(8, (batch_size,))] * 0.8 + 0.1 * torch.randn(batch_size, 3, 16, 16)
    label = torch.full((batch_size,), 1.0)
    err_d_real = criterion(net_d(real), label)
    err_d_real.backward()
    fake = net_g(torch.randn(batch_size, nz, 1, 1))
    label.fill_(0.0)
    err_d_fake = criterion(net_d(fake.detach()), label)
    err_d_fake.backward()
    optimizer_d.step()
    # generator
    net_g.zero_grad()
    label.fill_(1.0)
    output = net_d(fake)
    err_g = criterion(output, label)
    err_g.backward()
    optimizer_g.step()
    print(f"[{i}/{opt.niter}] {(err_d_real + err_d_fake).item()!r} {err_g.item()!r} {output.mean().item()!r}")
    if i % 10 == 0:
        print(net_g(fixed_noise).detach().mean().item())
