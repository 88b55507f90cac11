"""The report is one file that loads nothing, shows what it was given and trusts no text."""

import base64
import re
from html.parser import HTMLParser

import cv2
import numpy as np

from realisdance_jax.poses import report

OUTSIDE = ("src", "href", "action", "data", "poster", "background", "xlink:href", "srcset")


class Reader(HTMLParser):
    """Tags, texts, attributes that name other files, and whether tags are closed in order."""

    VOID = ("meta", "img", "br", "path", "rect", "circle", "polyline")

    def __init__(self, page: str):
        super().__init__(convert_charrefs=True)
        self.tags, self.texts, self.outside, self.open = [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.outside += [v for k, v in attrs if k in OUTSIDE and not v.startswith("data:")]
        assert not [k for k, _ in attrs if k.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def whole_page() -> str:
    curve = np.sin(np.arange(30.0))
    gap = np.where(np.arange(30) % 7 == 3, np.nan, curve)
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    return report.page(
        "A <title> & more",
        [
            ("facts", report.table(("a", "b"), [(1, "x<script>alert(1)</script>"), (2.5, None)])),
            ("notes", report.bullets(['quote " and <b>'])),
            ("curves", report.lines({"one": curve, "<two>": gap}, "of & over")),
            ("strips", report.strips({"left": curve > 0, "never": curve > 9}, "seen")),
            ("picture", report.picture(pixels, "before")),
            ("more", report.folded("open <me>", report.table(("a",), [("inside",)]))),
        ],
    )


def test_the_page_is_whole_and_self_contained():
    page = whole_page()
    reader = Reader(page)
    assert reader.open == []
    assert reader.outside == []
    assert "script" not in reader.tags
    assert "link" not in reader.tags
    assert not re.search(r"url\(|@import|https?:", page)
    for word in ("A <title> & more", "x<script>alert(1)</script>", 'quote " and <b>', "<two>"):
        assert word in reader.texts
    assert {"open <me>", "inside"} <= set(reader.texts)
    assert {"svg", "polyline", "rect", "img", "table", "details", "summary"} <= set(reader.tags)


def test_curves_are_interrupted_where_nothing_is_known():
    values = np.array([0.0, 1, np.nan, 2, 3, np.nan, 5])
    text = report.lines({"a": values}, "c")
    assert text.count("<polyline") == 2
    assert text.count("<circle") == 1
    assert ">5<" in text  # the highest value
    assert ">0<" in text
    points = [p for part in re.findall(r'points="([^"]+)"', text) for p in part.split()]
    assert len(points) == 4
    x, y = np.array([[float(v) for v in p.split(",")] for p in points]).T
    assert np.all(np.diff(x) > 0)
    assert np.all(np.diff(y) < 0)  # upwards


def test_empty_and_constant_curves_and_long_ones():
    nothing = np.full(4, np.nan)
    for series in ({}, {"a": nothing}, {"a": np.zeros(0)}, {"a": np.full(5, 2.0)}):
        Reader(report.page("t", [("s", report.lines(series, "c"))]))
    long = report.lines({"a": np.arange(100_000.0)}, "c")
    assert len(long) < 60_000


def test_strips_fill_the_frames_that_count():
    text = report.strips({"row": np.array([True, False, False, True])}, "c")
    boxes = [
        tuple(map(float, b)) for b in re.findall(r'x="([\d.]+)" y="\d+" width="([\d.]+)"', text)
    ]
    assert len(boxes) == 3  # the ground and two stretches
    (left, whole), (first, one), (second, two) = boxes
    assert (first, second) == (left, left + 3 * one)
    assert one == two
    assert abs(whole - 4 * one) < 0.02


def test_pictures_are_inside():
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[1, 2] = (255, 10, 0)
    text = report.picture(pixels, "c")
    data = re.search(r"base64,([^\"]+)", text)[1]
    again = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(again[..., ::-1], pixels)
