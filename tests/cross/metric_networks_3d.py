"""I3D and the 3D ResNet-50 in PyTorch, as DisCo's metrics have them, at any width.

Written from the papers and from the names and shapes of the published weights; the official
programs are scripts beside a model, not packages.
"""

import torch
from torch import nn
from torch.nn import functional as F


def tensorflow_pad(x: torch.Tensor, kernel, stride) -> torch.Tensor:
    """Zeros around `n c t h w`, so that windows cover it as TensorFlow's SAME does."""
    around = []
    for size, k, s in zip(x.shape[2:], kernel, stride, strict=True):
        total = max((-(-size // s) - 1) * s + k - size, 0)
        around = [total // 2, total - total // 2, *around]
    return F.pad(x, around)


class Unit(nn.Module):
    def __init__(self, inputs, outputs, kernel=1, stride=1, linear=False):
        super().__init__()
        self.linear = linear
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=linear)
        if not linear:
            self.bn = nn.BatchNorm3d(outputs, eps=0.001)

    def forward(self, x):
        y = self.conv3d(tensorflow_pad(x, self.conv3d.kernel_size, self.conv3d.stride))
        return y if self.linear else F.relu(self.bn(y))


class Pool(nn.Module):
    def __init__(self, kernel, stride):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x):
        return F.max_pool3d(tensorflow_pad(x, self.kernel, self.stride), self.kernel, self.stride)


class Mixed(nn.Module):
    def __init__(self, inputs, b0, b1a, b1b, b2a, b2b, b3b):
        super().__init__()
        self.b0 = Unit(inputs, b0)
        self.b1a, self.b1b = Unit(inputs, b1a), Unit(b1a, b1b, 3)
        self.b2a, self.b2b = Unit(inputs, b2a), Unit(b2a, b2b, 3)
        self.b3a, self.b3b = Pool((3, 3, 3), (1, 1, 1)), Unit(inputs, b3b)

    def forward(self, x):
        branches = self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))
        return torch.cat(branches, dim=1)


class I3D(nn.Sequential):
    """Logits of `n 3 t 224 224`, mean over time; all widths but the classes over `divisor`."""

    def __init__(self, divisor=1):
        super().__init__()
        w = [n // divisor for n in (3 * divisor, 64, 64, 192)]
        self.add_module("Conv3d_1a_7x7", Unit(w[0], w[1], 7, 2))
        self.add_module("MaxPool3d_2a_3x3", Pool((1, 3, 3), (1, 2, 2)))
        self.add_module("Conv3d_2b_1x1", Unit(w[1], w[2]))
        self.add_module("Conv3d_2c_3x3", Unit(w[2], w[3], 3))
        self.add_module("MaxPool3d_3a_3x3", Pool((1, 3, 3), (1, 2, 2)))
        width = self.mix(w[3], divisor, "3b", 64, 96, 128, 16, 32, 32)
        width = self.mix(width, divisor, "3c", 128, 128, 192, 32, 96, 64)
        self.add_module("MaxPool3d_4a_3x3", Pool((3, 3, 3), (2, 2, 2)))
        width = self.mix(width, divisor, "4b", 192, 96, 208, 16, 48, 64)
        width = self.mix(width, divisor, "4c", 160, 112, 224, 24, 64, 64)
        width = self.mix(width, divisor, "4d", 128, 128, 256, 24, 64, 64)
        width = self.mix(width, divisor, "4e", 112, 144, 288, 32, 64, 64)
        width = self.mix(width, divisor, "4f", 256, 160, 320, 32, 128, 128)
        self.add_module("MaxPool3d_5a_2x2", Pool((2, 2, 2), (2, 2, 2)))
        width = self.mix(width, divisor, "5b", 256, 160, 320, 32, 128, 128)
        width = self.mix(width, divisor, "5c", 384, 192, 384, 48, 128, 128)
        self.add_module("mean", nn.AvgPool3d((1, 7, 7), 1))
        self.add_module("logits", Unit(width, 400, linear=True))

    def mix(self, inputs, divisor, name, *widths):
        b0, b1a, b1b, b2a, b2b, b3b = (n // divisor for n in widths)
        self.add_module(f"Mixed_{name}", Mixed(inputs, b0, b1a, b1b, b2a, b2b, b3b))
        return b0 + b1b + b2b + b3b

    def forward(self, x):
        return super().forward(x).mean(dim=(2, 3, 4))


class Bottleneck(nn.Module):
    def __init__(self, inputs, inner, stride, project):
        super().__init__()
        outer = 4 * inner
        self.conv1, self.bn1 = nn.Conv3d(inputs, inner, 1, bias=False), nn.BatchNorm3d(inner)
        self.conv2 = nn.Conv3d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(inner)
        self.conv3, self.bn3 = nn.Conv3d(inner, outer, 1, bias=False), nn.BatchNorm3d(outer)
        shortcut = [nn.Conv3d(inputs, outer, 1, stride, bias=False), nn.BatchNorm3d(outer)]
        self.downsample = nn.Sequential(*shortcut if project else ())

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet3D(nn.Module):
    """Features of `n 3 16 112 112`; all widths over `divisor`."""

    def __init__(self, divisor=1):
        super().__init__()
        width = 64 // divisor
        self.conv1 = nn.Conv3d(3, width, 7, (1, 2, 2), padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        for number, (inner, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], start=1):
            layer = nn.Sequential()
            for block in range(blocks):
                stride = 2 if block == 0 and number > 1 else 1
                layer.append(Bottleneck(width, inner // divisor, stride, block == 0))
                width = 4 * inner // divisor
            self.add_module(f"layer{number}", layer)
        self.avgpool = nn.AvgPool3d((1, 4, 4), 1)

    def forward(self, x):
        x = F.max_pool3d(F.relu(self.bn1(self.conv1(x))), 3, 2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.avgpool(x).flatten(1)
