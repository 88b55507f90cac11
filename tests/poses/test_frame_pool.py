"""Frames in order from one process or several, without reading far ahead."""

import functools

import numpy as np
import pytest

from realisdance_jax.poses.frame_pool import paint_frames


def grey(level: int, size: tuple[int, int]) -> np.ndarray:
    if level < 0:
        raise ValueError(f"no level {level}")
    return np.full((*size, 3), level, np.uint8)


PAINT = functools.partial(grey, size=(2, 3))


def counted(levels, taken):
    for level in levels:
        taken.append(level)
        yield level


def test_one_process_paints_frame_by_frame():
    taken = []
    pictures = paint_frames(PAINT, counted(range(5), taken))
    assert taken == []
    assert next(pictures).tolist() == grey(0, (2, 3)).tolist()
    assert taken == [0]
    assert [picture[0, 0, 0] for picture in pictures] == [1, 2, 3, 4]


def test_processes_keep_the_order_and_read_little_ahead():
    taken = []
    pictures = paint_frames(PAINT, counted([*range(20), -1, 7], taken), processes=2)
    first = next(pictures)
    assert first.shape == (2, 3, 3)
    assert len(taken) <= 5
    seen = [first[0, 0, 0]]
    with pytest.raises(ValueError, match="no level -1"):
        seen.extend(picture[0, 0, 0] for picture in pictures)
    assert seen == list(range(20))


def test_no_frames():
    assert list(paint_frames(PAINT, [])) == []


def test_the_bar_counts_frames(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert len(list(paint_frames(PAINT, range(3), label="hands", total=3))) == 3
    shown = capsys.readouterr().err
    assert "hands" in shown
    assert "3/3" in shown
