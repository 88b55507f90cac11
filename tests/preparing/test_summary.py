"""`--report` tells of every track what is wrong with it, whether or not anything is repaired."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from realisdance_jax.poses.clip_files import save_clip
from realisdance_jax.prepare import make_parser
from tests.preparing.person import Framed, Person, write_case

SIZE = (96, 80)
DRIVER = Framed(SIZE, 36.0, (40.0, 34.0))
REFERENCE = Framed((120, 90), 50.0, (45.0, 40.0))
FRAMES = 14


class Tables(HTMLParser):
    """Rows of cells of all tables under each heading, and all texts."""

    def __init__(self, page: str):
        super().__init__()
        self.sections: dict[str, list[list[str]]] = {}
        self.texts: list[str] = []
        self.heading, self.tag = "", ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tag = tag
        rows = self.sections.setdefault(self.heading, [])
        if tag == "tr":
            rows.append([])
        elif tag in ("td", "th"):
            rows[-1].append("")

    def handle_endtag(self, tag):
        self.tag = ""

    def handle_data(self, data):
        self.texts.append(data)
        if self.tag == "h2":
            self.heading = data
        elif self.tag in ("td", "th"):
            self.sections[self.heading][-1][-1] += data

    def rows(self, heading: str, name: str) -> list[dict[str, str]]:
        """The rows of one name, by the head of their table."""
        found, head = [], []
        for row in self.sections[heading]:
            if row[0] in ("part", "track", "stream"):
                head = row
            elif name in row:
                found.append(dict(zip(head, row, strict=True)))
        return found


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """An ankle and a hand point leap for a frame, a wrist is gone for two, an elbow for six."""
    clip = Person(DRIVER, FRAMES).keypoint_clip()
    body, ok, hands = clip.body.copy(), clip.body_ok.copy(), clip.hands.copy()
    body[6, 0, 10] += 0.4
    hands[9, 0, 1, 5] += 0.3
    ok[4:6, 0, 7] = ok[5:11, 0, 3] = False
    score = np.full(ok.shape, 0.9)
    score[:, 0, 4] = 0.61
    score[5:11, 0, 3] = 0.1
    path = tmp_path_factory.mktemp("clip") / "clip.npz"
    save_clip(path, replace(clip, body=body, body_ok=ok, hands=hands, body_score=score))
    return path


def report(folder: Path, *words: object) -> Tables:
    page = folder / "page.html"
    words = ("--out", folder / "out", "--workers", 1, "--report", page, *words)
    options = make_parser().parse_args(["poses", *map(str, words)])
    options.run(options)
    return Tables(page.read_text("utf-8"))


@pytest.mark.parametrize("mending", [(), ("--repair", "--smooth")], ids=["as_is", "repaired"])
def test_every_track_has_its_faults_told(clip, tmp_path, mending):
    page = report(tmp_path, "--dwpose", clip, *mending)

    def track(name: str) -> dict[str, str]:
        (row,) = page.rows("Quality", name)
        return row

    ankle, wrist, elbow = (
        track(f"person 0 {name}") for name in ("right ankle", "left wrist", "right elbow")
    )
    assert (ankle["outliers"], ankle["gaps"], ankle["seen"]) == ("1", "0", "14 of 14")
    assert (wrist["outliers"], wrist["gaps"], wrist["seen"]) == ("0", "1 (longest 2)", "12 of 14")
    assert elbow["gaps"] == "1 (longest 6)"
    assert track("person 0 right hand 5")["outliers"] == "1"
    assert track("person 0 right wrist")["median score"] == "0.61"
    assert elbow["median score"] == "0.90"  # of the frames in which it is seen
    assert track("person 0 right hand 5")["median score"] == "-"
    (whole,) = page.rows("Quality", "dwpose body")
    assert (whole["tracks"], whole["gaps"], whole["outliers"]) == ("18", "2 (longest 6)", "1")
    assert any("thousandths of the frame's height per frame squared" in t for t in page.texts)
    (found,) = page.rows("Found", "person 0 right ankle")
    assert (found["what"], found["first frame"], found["last frame"]) == ("outlier", "6", "6")
    assert page.rows("Found", "person 0 right elbow")[0]["what"] == "gap, too long to fill"
    assert bool(page.rows("Changed", "person 0 left wrist")) == bool(mending)
    assert any(text.startswith("nothing; --repair takes out") for text in page.texts) != bool(
        mending
    )


def test_jitter_is_that_of_the_track_before_and_after(tmp_path):
    clip = Person(DRIVER, FRAMES).keypoint_clip()
    body = 0 * clip.body + clip.body[:1]
    body[1::2, 0, 4, 1] += 0.01  # second difference 0.02 of the height, in every frame
    save_clip(tmp_path / "k.npz", replace(clip, body=body))
    page = report(tmp_path, "--dwpose", tmp_path / "k.npz", "--smooth")
    (row,) = page.rows("Quality", "person 0 right wrist")
    assert float(row["jitter as it came"]) == pytest.approx(20, abs=0.01)
    assert float(row["jitter after mending"]) < 10
    (still,) = page.rows("Quality", "person 0 nose")
    assert (still["jitter as it came"], still["jitter after mending"]) == ("0.00", "0.00")


def test_bodies_and_hands_are_judged_too(tmp_path):
    files = write_case(tmp_path, DRIVER, REFERENCE, FRAMES)
    hands = Person(DRIVER, FRAMES).hand_clip()
    place = hands.translation.copy()
    place[7, 0, 1] += 0.3 * place[7, 0, 2]
    save_clip(tmp_path / "h.npz", replace(hands, translation=place))
    words = [("--hands", tmp_path / "h.npz")]
    words += [(f"--{name}", files[name]) for name in ("body", "body-model", "mano")]
    page = report(tmp_path, *(word for pair in words for word in pair))
    (body,) = page.rows("Quality", "body")
    assert (body["seen"], body["outliers"]) == (f"{FRAMES} of {FRAMES}", "0")
    (left,) = page.rows("Quality", "left hand")
    (right,) = page.rows("Quality", "right hand")
    assert (left["outliers"], right["outliers"]) == ("1", "0")
    assert float(right["jitter as it came"]) > 0


def test_a_video_alone_is_reported(tmp_path):
    files = write_case(tmp_path, DRIVER, REFERENCE, 2)
    words = [word for name in ("hands", "mano") for word in (f"--{name}", files[name])]
    report(tmp_path / "a", *words)
    page = report(tmp_path / "b", "--warp", f"hamer={tmp_path / 'a' / 'out' / 'hamer.mp4'}")
    assert "no keypoints, body or hands to judge" in page.texts
    assert "neither gaps nor outliers" in page.texts
