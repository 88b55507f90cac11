"""Where outputs may go: never onto an input, another output or a folder of other things."""

from pathlib import Path

import pytest

from realisdance_jax.sampling.targets import (
    check_folder,
    check_frames,
    check_output,
    check_outputs,
    output_paths,
)
from tests.refusals import refusal


def test_outputs_are_checked_beforehand_and_untouched(tmp_path):
    file = tmp_path / "file"
    file.touch()
    (tmp_path / "b.mp4").mkdir()
    for path, expected in (
        (tmp_path / "a.avi", "expected a name ending in .mp4"),
        (tmp_path / ".mp4", "expected a name ending in .mp4"),
        (tmp_path / "b.mp4", "expected a file to write, found a folder"),
        (file / "a.mp4", f"found the file {file}"),
        (file / "deep" / "a.mp4", f"found the file {file}"),
    ):
        assert expected in refusal(check_output, path, ".mp4")
    check_output(tmp_path / "new" / "folder" / "a.MP4", ".mp4")
    check_folder(tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.mp4", "file"]


def test_a_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    message = refusal(check_output, tmp_path / "new" / "a.mp4", ".mp4")
    assert "cannot write there" in message


def test_all_that_belongs_to_a_video():
    names = [
        path.name for path in output_paths(Path("d/a.b.mp4"), gates=True, frames=True).values()
    ]
    assert names == ["a.b.mp4", "a.b_side_by_side.mp4", "a.b_gates.mp4", "a.b_frames"]
    assert output_paths(Path("a.mp4"), side_by_side=False) == {"video": Path("a.mp4")}


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A driver, as made by another program."""
    folder = tmp_path / "dance_frames"
    folder.mkdir()
    for i in range(2):
        (folder / f"{i:06d}.png").touch()
    return folder


def test_frames_never_replace_a_driver(tmp_path, pictures):
    out, clash = (
        tmp_path / "dance.mp4",
        "dance_frames: expected a folder to write, found an input",
    )
    check_outputs([out], [pictures])
    check_outputs([out], [tmp_path / "dance.png"], frames=True)
    for given in (pictures, pictures / "000000.png", tmp_path / "x" / ".." / "dance_frames"):
        assert clash in refusal(check_outputs, [out], [None, given], frames=True)
    (tmp_path / "link").symlink_to(pictures)
    assert clash in refusal(check_outputs, [out], [tmp_path / "link"], frames=True)
    (tmp_path / "turned_frames").symlink_to(pictures)
    turned = tmp_path / "turned.mp4"
    assert "found an input" in refusal(check_outputs, [turned], [pictures], frames=True)
    assert len(list(pictures.iterdir())) == 2


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("a_side_by_side.mp4", {}),
        ("a_gates.mp4", {"gates": True}),
        ("z.npy", {"latents": "z.npy"}),
        ("z_final.npy", {"latents": "z.npy"}),
    ],
)
def test_no_output_is_an_input(tmp_path, name, options):
    (tmp_path / name).touch()
    if "latents" in options:
        options = {"latents": tmp_path / options["latents"]}
    out = [tmp_path / "a.mp4"]
    check_outputs(out, [tmp_path / "other"], **options)
    message = refusal(check_outputs, out, [tmp_path / name], **options)
    assert message == f"{tmp_path / name}: expected a file to write, found an input"


def test_cases_do_not_overwrite_each_other(tmp_path):
    outs = [tmp_path / "a.mp4", tmp_path / "a_gates.mp4"]
    check_outputs(outs, [])
    assert "a_gates.mp4: expected one output" in refusal(check_outputs, outs, [], gates=True)


def test_what_stands_at_an_outputs_place(tmp_path, pictures):
    check_frames(pictures)
    check_frames(tmp_path / "new")
    (pictures / "notes.txt").touch()
    assert "found notes.txt" in refusal(check_frames, pictures)
    (tmp_path / "a_frames").touch()
    out = [tmp_path / "a.mp4"]
    check_outputs(out, [])
    assert "found a file" in refusal(check_outputs, out, [], frames=True)
    (tmp_path / "a_side_by_side.mp4").mkdir()
    assert "found a folder" in refusal(check_outputs, out, [])
    assert "z.txt: expected a name ending in .npy" in refusal(
        check_outputs, out, [], side_by_side=False, latents=tmp_path / "z.txt"
    )
