"""Estimators that live in environments of their own: run the user's checkout, find what it wrote.

`command:python inference.py {video} {out}` in place of a file. The words are split as a shell
would, but no shell runs; `{video}` and `{out}` become absolute paths.
"""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from realisdance_jax.utils.errors import UserError

PREFIX = "command:"

BODY_FILES = ("smplx/*.npz", "hmr4d_results.pt", "*.pt", "*.npz")
"""What SMPLer-X (a folder), GVHMR and others leave for `--body`; the first that is there counts."""

HAND_FILES = ("hamer_info.pkl", "*.pkl", "*.npz")
"""The same for `--hands`."""

_TAIL = 4096
_GRACE = 5.0  # seconds to tidy up in, before it is killed


def command_of(value: str | Path) -> str | None:
    """The command in the value of an option, None when it is a file."""
    text = str(value)
    return text.removeprefix(PREFIX).strip() if text.startswith(PREFIX) else None


def source_value(text: str) -> Path | str:
    """Value of an option that takes a file or a command: a path, or the text of the command."""
    return Path(text) if command_of(text) is None else text


def command_words(command: str, video: Path | None, out: Path) -> list[str]:
    """The command as a list of arguments, paths filled in.

    Raises `UserError` for open quotes, nothing to run, a command that is not told where to write,
    and one that asks for a video where there is none.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UserError(f"{PREFIX}{command}: expected words as in a shell, found {error}") from None
    if not words:
        raise UserError(f"{PREFIX} expected a program to run, found nothing")
    if not any("{out}" in word for word in words):
        raise UserError(f"{PREFIX}{command}: expected the placeholder {{out}}, found none")
    if video is None and any("{video}" in word for word in words):
        raise UserError(f"{PREFIX}{command}: expected --video for its placeholder, found none")
    places = {"{video}": str(video and video.absolute()), "{out}": str(out.absolute())}
    return [re.sub(r"\{video\}|\{out\}", lambda name: places[name[0]], word) for word in words]


def run_plugin(command: str, video: Path | None, out: Path, log: Path) -> None:
    """Run an estimator on `video`; `out` is for its results, `log` keeps what it printed.

    `out` is made as a folder beforehand. Whatever interrupts this call ends the program and those
    that it started: they are a session of their own, SIGTERM asks and SIGKILL follows.
    Raises `UserError` naming the log when the program is not found, fails, or leaves nothing in
    `out`.
    """
    words = command_words(command, video, out)
    out.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as file:
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{words[0]}: expected a program to run ({reason})") from None
    try:
        code = process.wait()
    except BaseException:
        _end(process)
        raise
    if code:
        raise UserError(f"{words[0]}: {_ending(code)}; its output is in {log}{_last_line(log)}")
    if not any(out.rglob("*")):
        raise UserError(
            f"{words[0]}: expected results in {out}, found none; its output is in {log}"
        )


def _end(process: subprocess.Popen) -> None:
    """End a session: its processes have their time to go, unless another interruption comes."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        until = time.monotonic() + _GRACE
        while time.monotonic() < until:
            process.poll()  # else it stays as a zombie, which counts as one of them
            os.killpg(process.pid, 0)
            time.sleep(0.02)
    except ProcessLookupError:
        return
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def written_file(out: Path, patterns: Sequence[str]) -> Path:
    """What an estimator wrote below `out`: for a pattern with a folder (`smplx/*.npz`) the folder
    that holds this one, else the file.

    Raises `UserError` when nothing fits, or several files fit equally.
    """
    for pattern in patterns:
        folder, _, _ = pattern.rpartition("/")
        found = [path for path in out.rglob(pattern) if path.is_file()]
        if folder:
            found = [path.parents[folder.count("/") + 1] for path in found]
        places = sorted(set(found))
        if len(places) > 1:
            raise UserError(f"{out}: expected one {pattern}, found {len(places)}: {places[1]} too")
        if places:
            return places[0]
    raise UserError(f"{out}: expected one of {', '.join(patterns)}, found none of them")


def _ending(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}"
    names = {one.value: one.name for one in signal.Signals}
    return f"was ended by {names.get(-code, f'signal {-code}')}"


def _last_line(log: Path) -> str:
    """The end of a log in brackets: mostly the message of an exception."""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        lines = file.read().decode("utf-8", "replace").split("\n")
    said = [" ".join(line.split()) for line in lines if line.strip()]
    text = "".join(c if c.isprintable() else "?" for c in said[-1][:160]) if said else ""
    return f" ({text})" if text else ""
