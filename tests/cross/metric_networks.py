"""LPIPS and the InceptionV3 of FID in PyTorch, from tables of layers.

Written anew, for the packages `lpips` and `pytorch-fid` fetch weights and need torchvision; their
outputs were compared once with these (tests/golden/README.md).
"""

import torch
from torch import nn
from torch.nn import functional as F

VGG = "64 64 | M 128 128 | M 256 256 256 | M 512 512 512 | M 512 512 512"


class Trunk(nn.Sequential):
    """Features up to the end of each stage, in torchvision's numbering."""

    def __init__(self, backbone):
        if backbone == "vgg":
            stages, width = [], 3
            for stage in VGG.split("|"):
                layers = []
                for word in stage.split():
                    if word == "M":
                        layers += [nn.MaxPool2d(2)]
                    else:
                        layers += [nn.Conv2d(width, int(word), 3, padding=1), nn.ReLU()]
                        width = int(word)
                stages.append(layers)
        else:
            stages = [
                [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU()],
                [nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()],
                [nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()],
                [nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()],
                [nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()],
            ]
        super().__init__(*(layer for stage in stages for layer in stage))
        self.ends = torch.tensor([len(stage) for stage in stages]).cumsum(0) - 1

    def forward(self, x):
        outputs = []
        for i, layer in enumerate(self):
            x = layer(x)
            if i in self.ends:
                outputs.append(x)
        return outputs


class Linear(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.model = nn.Sequential(nn.Dropout(), nn.Conv2d(width, 1, 1, bias=False))

    def forward(self, x):
        return self.model(x)


class LPIPS(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.features = Trunk(backbone)
        widths = {"vgg": (64, 128, 256, 512, 512), "alex": (64, 192, 384, 256, 256)}[backbone]
        for i, width in enumerate(widths):
            self.add_module(f"lin{i}", Linear(width))

    def forward(self, a, b):
        shift = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
        scale = torch.tensor([0.458, 0.448, 0.450])[:, None, None]
        total = 0
        features = (self.features((x - shift) / scale) for x in (a, b))
        for i, (x, y) in enumerate(zip(*features, strict=True)):
            x, y = (z / (z.square().sum(1, keepdim=True).sqrt() + 1e-10) for z in (x, y))
            total = total + getattr(self, f"lin{i}")((x - y) ** 2).mean(dim=(1, 2, 3))
        return total


class Conv(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride=1, padding=None):
        super().__init__()
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = tuple(k // 2 for k in kernel) if padding is None else padding
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


def mean_pool(x):
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class Block(nn.Module):
    """Branches side by side, {name: [(suffix, width, kernel), ...]} in the order of the output."""

    def __init__(self, inputs, branches, shrink=False, pool=mean_pool):
        super().__init__()
        self.pool, self.shrink, self.paths = pool, shrink, []
        for name, units in branches.items():
            width, path = inputs, []
            for i, (suffix, outputs, kernel) in enumerate(units):
                last = shrink and i == len(units) - 1
                conv = Conv(width, outputs, kernel, *((2, 0) if last else ()))
                self.add_module(name + suffix, conv)
                path.append(name + suffix)
                width = width if suffix.endswith("a") else outputs  # row and column share an input
            self.paths.append(path)

    def forward(self, x):
        outputs = [self.branch(path, x) for path in self.paths]
        if self.shrink:
            outputs.append(F.max_pool2d(x, 3, 2))
        return torch.cat(outputs, dim=1)

    def branch(self, path, x):
        x = self.pool(x) if path == ["branch_pool"] else x
        forked = path[-1].endswith("b")
        for name in path[:-2] if forked else path:
            x = self._modules[name](x)
        sides = [self._modules[name](x) for name in path[-2:]] if forked else [x]
        return torch.cat(sides, dim=1)


def block_35(inputs, pool):
    return Block(inputs, {
        "branch1x1": [("", 64, 1)],
        "branch5x5": [("_1", 48, 1), ("_2", 64, 5)],
        "branch3x3dbl": [("_1", 64, 1), ("_2", 96, 3), ("_3", 96, 3)],
        "branch_pool": [("", pool, 1)],
    })  # fmt: skip


def block_17(width):
    row, column = (1, 7), (7, 1)
    return Block(768, {
        "branch1x1": [("", 192, 1)],
        "branch7x7": [("_1", width, 1), ("_2", width, row), ("_3", 192, column)],
        "branch7x7dbl": [("_1", width, 1), ("_2", width, column), ("_3", width, row),
                         ("_4", width, column), ("_5", 192, row)],
        "branch_pool": [("", 192, 1)],
    })  # fmt: skip


def block_8(inputs, pool):
    sides = (1, 3), (3, 1)
    branches = {
        "branch1x1": [("", 320, 1)],
        "branch3x3": [("_1", 384, 1), ("_2a", 384, sides[0]), ("_2b", 384, sides[1])],
        "branch3x3dbl": [("_1", 448, 1), ("_2", 384, 3), ("_3a", 384, sides[0]),
                         ("_3b", 384, sides[1])],
        "branch_pool": [("", 192, 1)],
    }  # fmt: skip
    return Block(inputs, branches, pool=pool)


class FIDInception(nn.Sequential):
    """Features of pictures in [0, 1]."""

    def __init__(self):
        super().__init__()
        wide = [("branch7x7x3", [("_1", 192, 1), ("_2", 192, (1, 7)), ("_3", 192, (7, 1)),
                                 ("_4", 192, 3)])]  # fmt: skip
        double = [("_1", 64, 1), ("_2", 96, 3), ("_3", 96, 3)]
        layers = {
            "Conv2d_1a_3x3": Conv(3, 32, 3, 2, 0),
            "Conv2d_2a_3x3": Conv(32, 32, 3, 1, 0),
            "Conv2d_2b_3x3": Conv(32, 64, 3),
            "pool1": nn.MaxPool2d(3, 2),
            "Conv2d_3b_1x1": Conv(64, 80, 1),
            "Conv2d_4a_3x3": Conv(80, 192, 3, 1, 0),
            "pool2": nn.MaxPool2d(3, 2),
            "Mixed_5b": block_35(192, 32),
            "Mixed_5c": block_35(256, 64),
            "Mixed_5d": block_35(288, 64),
            "Mixed_6a": Block(288, {"branch3x3": [("", 384, 3)], "branch3x3dbl": double}, True),
            "Mixed_6b": block_17(128),
            "Mixed_6c": block_17(160),
            "Mixed_6d": block_17(160),
            "Mixed_6e": block_17(192),
            "Mixed_7a": Block(768, {"branch3x3": [("_1", 192, 1), ("_2", 320, 3)], **dict(wide)},
                              True),
            "Mixed_7b": block_8(1280, mean_pool),
            "Mixed_7c": block_8(2048, lambda x: F.max_pool2d(x, 3, 1, 1)),
        }  # fmt: skip
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        x = F.interpolate(x, (299, 299), mode="bilinear", align_corners=False)
        return super().forward(2 * x - 1).mean(dim=(2, 3))
