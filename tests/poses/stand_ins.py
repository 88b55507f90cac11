"""Small ONNX networks with the signatures of YOLOX and DWPose, and films made for them.

A person is a rectangle of his or her own dark colour with one bright disc per point, every point in
a colour of its own. The detector finds rectangles by colour, the pose network points: a mistake in
channel order, normalisation, padding, crop or decoding moves or swaps them.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

POINTS, RADIUS = 133, 5
LEVELS = (0, 51, 102, 153, 204, 255)
BRIGHT = [c for c in itertools.product(LEVELS, repeat=3) if max(c) >= 153]
PALETTE = np.array(BRIGHT)[np.random.default_rng(5).permutation(len(BRIGHT))[:POINTS]]
"""RGB of every point."""

CLOTHES = ((20, 40, 80), (80, 20, 40))
"""RGB of the rectangles of two people."""

MEAN = np.array([123.675, 116.28, 103.53])
DEVIATION = np.array([58.395, 57.12, 57.375])


@dataclass(frozen=True)
class Figure:
    """A person in a frame: which one, box (left, top, right, bottom), points not drawn."""

    who: int
    box: tuple[int, int, int, int]
    hidden: tuple[int, ...] = ()

    @property
    def points(self) -> np.ndarray:
        """Whole pixels (133, 2) on a grid in shuffled order."""
        left, top, right, bottom = self.box
        columns = 12 if right - left < 1.2 * (bottom - top) else 14
        rows = -(-POINTS // columns)
        cells = np.random.default_rng(1).permutation(columns * rows)[:POINTS]
        x = left + (cells % columns + 1) * (right - left) / (columns + 1)
        y = top + (cells // columns + 1) * (bottom - top) / (rows + 1)
        return np.stack([x, y], axis=1).round().astype(int)


def draw(figures: Sequence[Figure], height: int, width: int) -> np.ndarray:
    """One RGB frame; later figures stand in front."""
    picture = np.zeros((height, width, 3), np.uint8)
    for figure in figures:
        left, top, right, bottom = figure.box
        picture[max(top, 0) : bottom, max(left, 0) : right] = CLOTHES[figure.who]
        for k, point in enumerate(figure.points.tolist()):
            if k not in figure.hidden:
                cv2.circle(picture, point, RADIUS, PALETTE[k].tolist(), -1)
    return picture


class Graph:
    """Nodes added one by one, outputs named in order."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, value) -> str:
        return self._stored(np.asarray(value, np.float32))

    def whole(self, *numbers: int) -> str:
        return self._stored(np.array(numbers, np.int64))

    def _stored(self, array: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(array, f"c{len(self.constants)}"))
        return self.constants[-1].name

    def node(self, kind: str, *inputs, **attributes) -> str:
        name = f"n{len(self.nodes)}"
        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        self.nodes.append(helper.make_node(kind, names, [name], **attributes))
        return name

    def save(self, path: Path, shape: Sequence, outputs: dict[str, Sequence]) -> Path:
        """`outputs`: node names with shapes."""

        def value(name: str, sizes: Sequence):
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)

        ends = [value(name, sizes) for name, sizes in outputs.items()]
        graph = helper.make_graph(
            self.nodes, "stand_in", [value("input", shape)], ends, self.constants
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        onnx.save(model, path)
        return path


def _box_of(graph: Graph, colour: Sequence[int], side: int) -> tuple[str, str, str]:
    """Nodes of centre (1 2) and size (1 2) in pixels of what has a BGR colour, and if any (1 1)."""
    away = graph.node("Abs", graph.node("Sub", "input", np.reshape(colour, (1, 3, 1, 1))))
    near = graph.node("Less", graph.node("ReduceMax", away, axes=[1]), 6)
    mask = graph.node("Cast", near, to=TensorProto.FLOAT)
    ends, starts = [], []
    index = np.arange(side)
    for across in (2, 3):
        line = graph.node("ReduceMax", mask, axes=[1, across], keepdims=0)
        ends.append(graph.node("ReduceMax", graph.node("Mul", line, index + 1), axes=[1]))
        back = graph.node("ReduceMax", graph.node("Mul", line, side - index), axes=[1])
        starts.append(graph.node("Sub", np.full((1, 1), side), back))
    end, start = graph.node("Concat", *ends, axis=1), graph.node("Concat", *starts, axis=1)
    found = graph.node("ReduceMax", mask, axes=[1, 2, 3], keepdims=0)
    size = graph.node("Max", graph.node("Sub", end, start), 1)
    centre = graph.node("Mul", graph.node("Add", end, start), 0.5)
    return centre, size, graph.node("Reshape", found, graph.whole(1, 1))


def detector_file(path: Path, side: int = 640) -> Path:
    """Rows for the two people at an anchor of every stride, with decoys that must not count."""
    graph = Graph()
    anchors = [(stride, side // stride) for stride in (8, 16, 32)]
    total = sum(count * count for _, count in anchors)
    starts = np.cumsum([0] + [count * count for _, count in anchors])
    people = []
    for who, level, cell, scores in ((0, 1, (7, 3), (0.9, 0.9)), (1, 2, (2, 5), (0.9, 0.8))):
        stride, count = anchors[level]
        centre, size, found = _box_of(graph, CLOTHES[who][::-1], side)
        place = graph.node("Sub", graph.node("Mul", centre, 1 / stride), [cell])
        extent = graph.node("Log", graph.node("Mul", size, 1 / stride))
        confidence = graph.node("Mul", found, [list(scores)])
        row = graph.node("Concat", place, extent, confidence, np.zeros((1, 79)), axis=1)
        people.append((int(starts[level]) + cell[1] * count + cell[0], row))
    huge = [0, 0, np.log(side / 8), np.log(side / 8)]
    car = [*huge, 1.0, *np.eye(80)[2]]
    unlikely = [*huge, 0.5, *(0.5 * np.eye(80)[0])]
    blank = np.zeros((people[0][0], 85))
    blank[0], blank[1] = car, unlikely
    (first, row), (second, other) = people
    rest = [np.zeros((second - first - 1, 85)), np.zeros((total - second - 1, 85))]
    rows = graph.node("Concat", blank, row, rest[0], other, rest[1], axis=0)
    out = graph.node("Reshape", rows, graph.whole(1, total, 85))
    return graph.save(path, [1, 3, side, side], {out: [1, total, 85]})


def pose_file(path: Path, height: int = 384, width: int = 288) -> Path:
    """Every point where its colour is densest; the score tells how much of a disc is there."""
    graph = Graph()
    colours = (PALETTE[:, ::-1] - MEAN) / DEVIATION
    square = graph.node("ReduceSum", graph.node("Mul", "input", "input"), graph.whole(1))
    features = graph.node("Concat", "input", square, axis=1)
    # 1 - distance^2 / reach^2 as one product, since |x - c|^2 = x^2 - 2 x c + c^2
    reach = 0.5**2
    weights = np.concatenate([2 * colours, np.full((POINTS, 1), -1.0)], axis=1) / reach
    bias = 1 - (colours**2).sum(axis=1) / reach
    like = graph.node("Relu", graph.node("Conv", features, weights[:, :, None, None], bias))
    steps = np.arange(-6, 7)
    kernel = np.exp(-(steps**2) / (2 * 3.0**2))
    kernel = np.tile(kernel / kernel.sum(), (POINTS, 1))
    blurred = graph.node("Conv", like, kernel[:, None, None], group=POINTS, pads=[0, 6, 0, 6])
    blurred = graph.node("Conv", blurred, kernel[:, None, :, None], group=POINTS, pads=[6, 0, 6, 0])
    outputs = {}
    for axis, count in ((2, width), (3, height)):
        line = graph.node("ReduceMax", blurred, axes=[axis], keepdims=0)
        double = graph.node(
            "Resize",
            line,
            "",
            (1, 1, 2),
            mode="linear",
            coordinate_transformation_mode="asymmetric",
        )
        outputs[graph.node("Mul", double, 1.5)] = ["n", POINTS, 2 * count]
    return graph.save(path, ["n", 3, height, width], outputs)
