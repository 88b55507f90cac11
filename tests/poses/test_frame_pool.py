"""Frames in order from one process or several, without reading far ahead."""

import functools
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

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


class Counted:
    """Paints, and counts how often it is sent somewhere."""

    sent = 0

    def __call__(self, level: int) -> np.ndarray:
        return grey(level, (2, 3))

    def __reduce__(self):
        Counted.sent += 1
        return Counted, ()


def test_the_painter_is_sent_once_to_each_process():
    assert len(list(paint_frames(Counted(), range(12), processes=2))) == 12
    assert Counted.sent == 2


def slow_number(frame: int) -> np.ndarray:
    """The number of the process that paints, in the bytes of a picture."""
    time.sleep(0.05)
    return np.frombuffer(os.getpid().to_bytes(9, "little"), np.uint8).reshape(1, 3, 3)


PAINTS = """
from realisdance_jax.poses.frame_pool import paint_frames
from realisdance_jax.utils.errors import exit_on_user_error
from tests.poses.test_frame_pool import slow_number

def frames():
    for number in range(10000):
        if number == 3:
            print("started", flush=True)
        yield number

def main():
    for picture in paint_frames(slow_number, frames(), processes=2):
        print(int.from_bytes(picture.tobytes(), "little"), flush=True)

exit_on_user_error(main)
"""


@pytest.fixture
def command():
    """It paints until it is stopped; its output ends when the last of its processes has ended."""
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    line, root = [sys.executable, "-c", PAINTS], Path(__file__).parents[2]
    with subprocess.Popen(line, cwd=root, start_new_session=True, **how) as command:
        assert command.stdout.readline() == "started\n"
        yield command
        with suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)


@pytest.mark.parametrize("painting", [False, True])
def test_interrupted_at_the_keyboard(command, painting):
    """All get the signal, while processes start or paint, and one line says so."""
    if painting:
        assert command.stdout.readline().strip().isdigit()
    os.killpg(command.pid, signal.SIGINT)
    assert command.communicate(timeout=60)[1] == "interrupted\n"
    assert command.returncode == 128 + signal.SIGINT


def test_a_killed_process_is_one_line(command):
    os.kill(int(command.stdout.readline()), signal.SIGKILL)
    said = command.communicate(timeout=60)[1]
    assert said.startswith("error: painting: a process was killed")
    assert "--workers 1" in said
    assert said.count("\n") == 1
    assert command.returncode == 2


def test_processes_end_with_the_command_that_started_them(command):
    command.stdout.readline()
    command.kill()
    command.communicate(timeout=60)
