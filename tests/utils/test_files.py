"""Outputs are whole or absent, whatever ends their writer."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_files, atomic_output, existing_file
from tests.refusals import refusal

WRITER = """
import os, sys, time
from realisdance_jax.utils.errors import exit_on_user_error
from realisdance_jax.utils.files import atomic_output

def main():
    with atomic_output(sys.argv[1]) as partial:
        if sys.argv[2] == "folder":
            partial.mkdir()
        file = partial / "file" if partial.is_dir() else partial
        with open(file, "w") as stream:
            stream.write("half")
            stream.flush()
            print("writing", flush=True)
            for _ in range(600):
                time.sleep(0.1)  # naps: a signal just before a sleep is heard after it

exit_on_user_error(main)
"""
KILLED_AT = """
import os, signal, sys
from realisdance_jax.utils.files import atomic_files

left = int(sys.argv[2])

def counted(call):
    def step(*names):
        global left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return call(*names)
    return step

os.rename, os.replace = counted(os.rename), counted(os.replace)
with atomic_files(sys.argv[1], "abc") as folder:
    for name in "ac":
        (folder / name).write_text("new")
"""
BETWEEN = """
import os, signal, sys
from realisdance_jax.utils.files import atomic_output

os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with atomic_output(sys.argv[1]) as partial:
    partial.mkdir()
"""


def write(path: Path, kind: str, text: str) -> None:
    with atomic_output(path) as partial:
        if kind == "folder":
            partial.mkdir()
            partial = partial / "file"
        partial.write_text(text)


def read(path: Path) -> str:
    return (path / "file" if path.is_dir() else path).read_text()


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def program(source: str, *words: object) -> subprocess.Popen:
    line = [sys.executable, "-c", source, *map(str, words)]
    return subprocess.Popen(line, cwd=Path(__file__).parents[2], stdout=-1, stderr=-1, text=True)


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_killed_writer(tmp_path, kind, there, number):
    """Nothing half written is seen, and the next writer finds and leaves nothing else."""
    path = tmp_path / "a.out"
    if there:
        write(path, kind, "old")
    with program(WRITER, path, kind) as writer:
        assert writer.stdout.readline() == "writing\n"
        writer.send_signal(number)
        writer.communicate(timeout=30)
    killed = number == signal.SIGKILL
    assert writer.returncode == (-number if killed else 128 + number)
    assert len(names(tmp_path)) == there + killed
    assert path.exists() == there
    if there:
        assert read(path) == "old"
    write(path, kind, "new")
    assert names(tmp_path) == ["a.out"]
    assert read(path) == "new"


def test_killed_between_the_two_renames(tmp_path):
    """The old folder is put back by the next writer, though that one fails."""
    path = tmp_path / "weights"
    write(path, "folder", "old")
    with program(BETWEEN, path) as writer:
        writer.communicate(timeout=30)
    assert writer.returncode == -signal.SIGKILL
    assert not path.exists()
    with pytest.raises(RuntimeError), atomic_output(path):
        raise RuntimeError
    assert names(tmp_path) == ["weights"]
    assert read(path) == "old"


def test_a_living_writer_is_left_alone(tmp_path):
    path = tmp_path / "a"
    with program(WRITER, path, "file") as writer:
        writer.stdout.readline()
        write(path, "file", "mine")
        assert len(names(tmp_path)) == 2
        writer.terminate()
        writer.communicate(timeout=30)
    with atomic_output(path) as outer:
        outer.write_text("outer")
        write(path, "file", "inner")
        assert outer.read_text() == "outer"
    assert names(tmp_path) == ["a"]
    assert read(path) == "outer"


def test_only_our_own_scratch_is_cleared(tmp_path):
    others = [".a.partial-", ".a.partial-12345678.bak", ".a.b.partial-12345678", ".a.backup_1"]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / ".a.partial-abcdefgh").write_text("a file")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / ".a.partial-hgfedcba").symlink_to(elsewhere)
    before = names(tmp_path)
    (tmp_path / ".a.partial-12345678").mkdir()
    write(tmp_path / "a", "file", "text")
    assert names(tmp_path) == sorted([*before, "a"])


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "no"), KeyboardInterrupt()])
def test_a_folder_that_cannot_be_replaced_is_back_in_its_place(tmp_path, monkeypatch, error):
    path = tmp_path / "weights"
    write(path, "folder", "old")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, "replace", fail)
    expected = UserError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        write(path, "folder", "new")
    if expected is UserError:
        assert str(caught.value) == f"{path}: cannot write it (no)"
    assert names(tmp_path) == ["weights"]
    assert read(path) == "old"


def test_a_folder_that_cannot_even_be_put_back_is_kept(tmp_path, monkeypatch):
    path = tmp_path / "weights"
    write(path, "folder", "old")
    rename, calls = os.rename, []

    def once(*pair):
        calls.append(pair)
        if len(calls) > 1:
            raise OSError(errno.EIO, "broken")
        rename(*pair)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", once)
        patch.setattr(os, "replace", once)
        with pytest.raises(UserError, match="broken"):
            write(path, "folder", "new")
    assert not path.exists()
    with pytest.raises(RuntimeError), atomic_output(path):
        raise RuntimeError
    assert read(path) == "old"


@pytest.mark.parametrize("kinds", [("file", "folder"), ("folder", "file")])
def test_a_file_and_a_folder_do_not_replace_each_other(tmp_path, kinds):
    path = tmp_path / "a"
    write(path, kinds[0], "old")
    with pytest.raises(UserError, match="a: cannot write it"):
        write(path, kinds[1], "new")
    assert names(tmp_path) == ["a"]
    assert read(path) == "old"


def test_a_full_disk_is_one_line(tmp_path):
    with pytest.raises(UserError) as caught, atomic_output(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(caught.value) == f"{tmp_path}/a: cannot write it (No space left on device)"
    with pytest.raises(OSError, match="other"), atomic_output(tmp_path / "a"):
        raise OSError(errno.EBADF, "other")
    assert not names(tmp_path)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write there"):
        write(tmp_path / "file" / "a", "file", "text")


OLD, NEW = {"a": "old", "b": "old", "c": "old"}, {"a": "new", "c": "new"}


def case(folder: Path) -> Path:
    """Three files that belong together and one of the user's."""
    folder.mkdir()
    for name, text in (OLD | {"own": "mine"}).items():
        (folder / name).write_text(text)
    return folder


def texts(folder: Path) -> dict[str, str]:
    """Of the files that belong together; the user's is as it was."""
    found = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
    assert found.pop("own") == "mine"
    return found


def test_files_are_replaced_together(tmp_path):
    folder = case(tmp_path / "case")
    with atomic_files(folder, "abc") as draft:
        for name in "ac":
            (draft / name).write_text("new")
        assert texts(folder) == OLD
    assert texts(folder) == NEW
    assert names(folder) == ["a", "c", "own"]
    with pytest.raises(ValueError, match=r"got .'own'"), atomic_files(folder, "abc") as draft:
        (draft / "own").write_text("other")
    with pytest.raises(FileNotFoundError), atomic_files(folder, "abc") as draft:
        (draft / "none" / "a").write_text("half")
    assert texts(folder) == NEW
    assert names(folder) == ["a", "c", "own"]


@pytest.mark.parametrize("steps", range(7))
def test_files_of_a_killed_replacement_are_never_of_two_kinds(tmp_path, steps):
    """Before each of the renames; the next call finishes what was decided, though it fails."""
    folder = case(tmp_path / "case")
    with program(KILLED_AT, folder, steps) as writer:
        writer.communicate(timeout=30)
    assert writer.returncode == -signal.SIGKILL
    left = texts(folder)
    assert left.items() <= OLD.items() or left.items() <= NEW.items()
    with pytest.raises(RuntimeError), atomic_files(folder, "abc"):
        raise RuntimeError
    assert texts(folder) == (NEW if steps else OLD)
    assert all(path.is_file() for path in folder.iterdir())


def test_an_old_file_that_cannot_go_keeps_all(tmp_path, monkeypatch):
    folder = case(tmp_path / "case")
    (folder / "c").unlink()
    (folder / "c").mkdir()
    (folder / "c" / "kept").touch()
    with pytest.raises(UserError) as caught, atomic_files(folder, ["a", "b", "c"]) as draft:
        (draft / "a").write_text("new")
    assert str(caught.value) == f"{folder}: cannot write there (c is a folder)"
    assert texts(folder) == {"a": "old", "b": "old"}
    assert names(folder) == ["a", "b", "c", "own"]
    assert names(folder / "c") == ["kept"]


def test_inputs_that_are_no_files(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for name, found in (
        ("none", "no such file"),
        ("file/below", "no such file"),
        (".", "a folder"),
        ("pipe", "no regular file"),
        ("loop", "none that can be read (Too many levels of symbolic links)"),
        (f"{'b' * 300}.pkl", "none that can be read (File name too long)"),
    ):
        line = refusal(existing_file, tmp_path / name, "a thing")
        assert line == f"{tmp_path / name}: expected a thing, found {found}"


def test_a_file_without_permission(tmp_path, monkeypatch):
    """Said here, for readers open the file again without a care."""
    (tmp_path / "file").touch()

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    line = refusal(existing_file, tmp_path / "file", "a thing")
    assert line.endswith("found none that can be read (Permission denied)")
