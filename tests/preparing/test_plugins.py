"""Other people's programs: what they are told, what they leave, how they fail."""

import fcntl
import gc
import signal
import sys
import time
from pathlib import Path

import pytest

from realisdance_jax.preparing import plugins
from realisdance_jax.preparing.plugins import (
    BODY_FILES,
    HAND_FILES,
    command_of,
    command_words,
    run_plugin,
    written_file,
)
from tests.refusals import refusal

VIDEO = Path("a film.mp4")


@pytest.fixture
def run(tmp_path):
    """Run Python code with the film and the folder for results as its arguments."""
    script, out, log = tmp_path / "a script.py", tmp_path / "new" / "out", tmp_path / "logs" / "b"

    def run(code: str, words: str = "{video} {out}") -> tuple[Path, Path]:
        script.write_text(f"import os, pathlib, sys\n{code}\n")
        run_plugin(f"'{sys.executable}' '{script}' {words}", tmp_path / VIDEO, out, log)
        return out, log

    run.log = log
    return run


def test_a_command_and_a_file():
    assert command_of("command: python x.py {out}") == "python x.py {out}"
    assert command_of("folder/command:x") is None
    assert command_of(Path("results")) is None


def test_words_are_split_once_and_never_expanded(tmp_path):
    words = command_words("run --in={video} '{out}/x y' $HOME `id` ; *", VIDEO, tmp_path / "a b")
    assert words == [
        "run",
        f"--in={VIDEO.absolute()}",
        f"{tmp_path}/a b/x y",
        "$HOME",
        "`id`",
        ";",
        "*",
    ]


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("run 'open {out}", "No closing quotation"),
        ("", "expected a program"),
        ("run {video}", "placeholder {out}"),
    ],
)
def test_commands_that_cannot_run(command, part, tmp_path):
    assert part in refusal(command_words, command, VIDEO, tmp_path)


def test_output_is_kept_and_results_are_found(run, tmp_path):
    out, log = run(
        "print('to out'); print('to err', file=sys.stderr); assert not sys.stdin.read()\n"
        "open(os.path.join(sys.argv[2], 'hamer_info.pkl'), 'w').write(sys.argv[1])"
    )
    assert sorted(log.read_text().split("\n")) == ["", "to err", "to out"]
    assert written_file(out, HAND_FILES).read_text() == str(tmp_path / VIDEO)


@pytest.mark.parametrize(
    ("code", "part"),
    [
        ("raise RuntimeError('no\\tweights')", "exit code 1"),
        ("raise RuntimeError('no\\tweights')", "(RuntimeError: no weights)"),
        ("sys.exit(3)", "exit code 3"),
        ("os.kill(os.getpid(), 9)", "SIGKILL"),
        ("print('done')", "expected results in"),
    ],
)
def test_failures_name_the_log(run, code, part):
    line = refusal(run, code)
    assert part in line
    assert str(run.log) in line


STAYS = """
import fcntl, signal, subprocess
lock = open({lock!r}, "w")
fcntl.flock(lock, fcntl.LOCK_EX)
code = "import signal, time; {before}; print('up', flush=True); time.sleep(60)"
subprocess.run([sys.executable, "-c", code], close_fds=False)
"""
"""Holds a lock until it and the program that it starts are gone."""


def is_free(lock: Path) -> bool:
    """Whether nobody holds the lock."""
    with open(lock, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@pytest.mark.parametrize("before", ["pass", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"])
def test_an_interruption_ends_the_program_and_what_it_started(run, tmp_path, monkeypatch, before):
    monkeypatch.setattr(plugins, "_GRACE", 0.3)
    lock = tmp_path / "lock"
    begun = time.monotonic()

    def interrupt(*_):
        if run.log.exists() and run.log.read_text() == "up\n":
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert not is_free(lock)
            raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # an interruption inside a garbage collector's callback would be lost
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(STAYS.format(lock=str(lock), before=before))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        gc.enable()
    assert time.monotonic() - begun < 30
    assert is_free(lock)


def test_a_program_that_is_not_there(tmp_path):
    line = refusal(run_plugin, "no-such-program {out}", VIDEO, tmp_path / "o", tmp_path / "log")
    assert line.startswith("no-such-program: expected a program to run (No such file")


def test_which_results_count(tmp_path):
    def wrote(*names: str) -> Path:
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        for name in names:
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return out

    smplerx = wrote("clip/smplx/00001_0.npz", "clip/smplx/00002_0.npz", "clip/meta/00001_0.json")
    assert written_file(smplerx, BODY_FILES) == smplerx / "clip"
    gvhmr = wrote("film/hmr4d_results.pt", "film/preprocess/vitpose.pt")
    assert written_file(gvhmr, BODY_FILES).name == "hmr4d_results.pt"
    flat = wrote("smplx/00001_0.npz")
    assert written_file(flat, BODY_FILES) == flat
    two = wrote("a/hamer_info.pkl", "b/hamer_info.pkl")
    assert "expected one hamer_info.pkl, found 2" in refusal(written_file, two, HAND_FILES)
    assert "found none of them" in refusal(written_file, wrote("video.mp4"), HAND_FILES)
