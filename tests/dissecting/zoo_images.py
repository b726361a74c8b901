"""Small implementations of image networks from papers; the table of the zoo names them."""

import torch
from torch import nn
from torch.nn import functional as F

from thruway.networks import resnet


def conv(inputs, outputs, size=3, stride=1, groups=1):
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups)


def conv_relu(inputs, outputs, size=3):
    return nn.Sequential(conv(inputs, outputs, size), nn.ReLU(inplace=True))


def image():
    return torch.randn(2, 3, 8, 8)


class Dense(nn.Module):
    """DenseNet: each layer's maps are put beside all earlier ones"""

    def __init__(self):
        super().__init__()
        self.stem = conv(3, 4)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(4 + 2 * n), nn.ReLU(), conv(4 + 2 * n, 2)) for n in range(3)
        )
        self.transition = nn.Sequential(nn.BatchNorm2d(10), nn.ReLU(), conv(10, 5, 1), nn.AvgPool2d(2))

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.transition(x)


class UNet(nn.Module):
    """Two levels down and up; the ways across are added, or put beside what comes up, or weighed before that"""

    def __init__(self, adds, weighs=False):
        super().__init__()
        self.adds, self.weighs = adds, weighs
        self.of_across, self.of_up, self.gate = conv(8, 4, 1), conv(8, 4, 1), conv(4, 1, 1)
        self.enter = nn.Sequential(conv_relu(3, 4), conv_relu(4, 4))
        self.down = conv_relu(4, 8)
        self.bottom = nn.Sequential(conv_relu(8, 16), conv_relu(16, 16))
        self.up2, self.up1 = nn.ConvTranspose2d(16, 8, 2, 2), nn.ConvTranspose2d(8, 4, 2, 2)
        self.join2, self.join1 = conv_relu(8 if adds else 16, 8), conv_relu(4 if adds else 8, 4)
        self.leave = conv(4, 2, 1)

    def forward(self, x):
        one = self.enter(x)
        two = self.down(F.max_pool2d(one, 2))
        up = self.up2(self.bottom(F.max_pool2d(two, 2)))
        if self.weighs:
            two = two * torch.sigmoid(self.gate(F.relu(self.of_across(two) + self.of_up(up))))
        up = self.up1(self.join2(up + two if self.adds else torch.cat([up, two], 1)))
        return self.leave(self.join1(up + one if self.adds else torch.cat([up, one], 1)))


class Inception(nn.Module):
    """Columns of several sizes; their maps are added"""

    def __init__(self):
        super().__init__()
        self.small, self.wide = conv_relu(4, 4, 1), nn.Sequential(conv_relu(4, 4, 1), conv_relu(4, 4, 3))
        self.pooled = conv_relu(4, 4, 1)

    def forward(self, x):
        return self.small(x) + self.wide(x) + self.pooled(F.max_pool2d(x, 3, 1, 1))


class Reparameterised(nn.Module):
    """RepVGG as it trains: two maps and the signal itself, each normed, are added"""

    def __init__(self):
        super().__init__()
        self.wide = nn.Sequential(conv(4, 4), nn.BatchNorm2d(4))
        self.small, self.norm = nn.Sequential(conv(4, 4, 1), nn.BatchNorm2d(4)), nn.BatchNorm2d(4)

    def forward(self, x):
        return F.relu(self.wide(x) + self.small(x) + self.norm(x))


class SqueezeExcite(nn.Module):
    """A ResNet's block whose branch is weighed channel by channel, by a gate made of itself"""

    def __init__(self):
        super().__init__()
        self.maps = nn.Sequential(conv_relu(4, 4), conv(4, 4))
        self.weigh = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_relu(4, 2, 1), conv(2, 4, 1), nn.Sigmoid())

    def forward(self, x):
        f = self.maps(x)
        return F.relu(f * self.weigh(f) + x)


class PooledShortcut(nn.Module):
    """ResNet-D: where the map shrinks, the way round is pooled before it is projected"""

    def __init__(self):
        super().__init__()
        self.maps = nn.Sequential(conv(4, 4), nn.BatchNorm2d(4), nn.ReLU(inplace=True), conv(4, 8, 3, 2))
        self.round = nn.Sequential(nn.AvgPool2d(2), conv(4, 8, 1), nn.BatchNorm2d(8))

    def forward(self, x):
        return F.relu_(self.maps(x).add_(self.round(x)))


class Shuffle(nn.Module):
    """ShuffleNet V2: one half passes untouched and is put beside the other"""

    def __init__(self):
        super().__init__()
        self.changed = nn.Sequential(conv_relu(2, 2, 1), conv(2, 2, 3, groups=2), conv_relu(2, 2, 1))

    def forward(self, x):
        kept, other = x.chunk(2, 1)
        x = torch.cat([kept, self.changed(other)], 1)
        return x.view(-1, 2, 2, 8, 8).transpose(1, 2).reshape(-1, 4, 8, 8)


class Reversible(nn.Module):
    """RevNet: two halves, each changed by what the other says"""

    def __init__(self):
        super().__init__()
        self.f, self.g = conv_relu(2, 2), conv_relu(2, 2)

    def forward(self, x):
        a, b = x.chunk(2, 1)
        a = a + self.f(b)
        return torch.cat([a, b + self.g(a)], 1)


class TimedResidual(nn.Module):
    """A diffusion model's block: the time is added inside the branch"""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(2, inputs), conv(inputs, outputs)
        self.time = nn.Linear(6, outputs)
        self.norm2, self.conv2 = nn.GroupNorm(2, outputs), conv(outputs, outputs)
        self.skip = conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x, t):
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time(F.silu(t))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class Diffusion(nn.Module):
    """A denoising U-Net in small: what is kept on the way down is put beside what comes up"""

    def __init__(self):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(4, 6), nn.SiLU(), nn.Linear(6, 6))
        self.enter = conv(3, 4)
        self.down, self.middle, self.up = TimedResidual(4, 4), TimedResidual(4, 8), TimedResidual(12, 4)
        self.norm, self.qkv, self.out = nn.GroupNorm(2, 8), conv(8, 24, 1), conv(8, 8, 1)

    def attend(self, x):
        q, k, v = self.qkv(self.norm(x)).flatten(2).chunk(3, 1)
        return self.out((v @ (q.transpose(1, 2) @ k / 8**0.5).softmax(-1).transpose(1, 2)).view(x.shape))

    def forward(self, x, t):
        angles = t[:, None] * torch.tensor([1.0, 0.1])
        t = self.time(torch.cat([angles.sin(), angles.cos()], -1))
        kept = self.down(self.enter(x), t)
        x = self.middle(F.avg_pool2d(kept, 2), t)
        x = x + self.attend(x)
        return self.up(torch.cat([F.interpolate(x, scale_factor=2), kept], 1), t)


class Pyramid(nn.Module):
    """A feature pyramid: lateral maps, to each of which what lies above is added; two maps come out, in a dict"""

    def __init__(self):
        super().__init__()
        self.low, self.high = conv_relu(3, 4), conv_relu(4, 8)
        self.side_low, self.side_high = conv(4, 6, 1), conv(8, 6, 1)
        self.grow = nn.Upsample(scale_factor=2)

    def forward(self, x):
        low = self.low(x)
        top = self.side_high(self.high(F.max_pool2d(low, 2)))
        return {"high": top, "low": self.side_low(low) + self.grow(top)}


class Siamese(nn.Module):
    """Two images through one net"""

    def __init__(self):
        super().__init__()
        self.net = resnet((1,), classes=4, widths=(4,))

    def forward(self, left, right):
        return (self.net(left) - self.net(right)).norm(dim=-1)


class DropPath(nn.Module):
    """Stochastic depth by sample, in evaluation mode the identity"""

    def forward(self, x):
        if not self.training:
            return x
        return x / 0.8 * (torch.rand(len(x), 1, 1, 1) < 0.8)


class LayerScaled(nn.Module):
    """A ConvNeXt block, channels last inside"""

    def __init__(self):
        super().__init__()
        self.mix, self.norm = conv(4, 4, 5, groups=4), nn.LayerNorm(4)
        self.wide, self.narrow = nn.Linear(4, 8), nn.Linear(8, 4)
        self.gamma, self.drop_path = nn.Parameter(torch.full((4,), 0.1)), DropPath()

    def forward(self, x):
        h = self.narrow(F.gelu(self.wide(self.norm(self.mix(x).permute(0, 2, 3, 1)))))
        return x + self.drop_path((self.gamma * h).permute(0, 3, 1, 2))


def stacked(*blocks):
    return nn.Sequential(conv(3, 4), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(5))


def built(*blocks):
    net = stacked(*blocks)
    net(image())  # the last layer learns its size
    return net
