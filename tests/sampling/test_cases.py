"""Folders of cases in both layouts."""

import re
from pathlib import Path

import pytest

from realisdance_jax.sampling.cases import Case, find_cases, read_case
from realisdance_jax.utils.errors import UserError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_one_folder_per_case(tmp_path):
    touch(
        tmp_path,
        "b/ref.webp",
        "b/dwpose.pkl",
        "a/ref.png",
        "a/hamer.mp4",
        "a/smpl/000.png",
        "a/notes.txt",
        "a/notes.md",
        ".hidden/ref.png",
        "unrelated/readme.txt",
        "list.txt",
    )
    a, b = tmp_path / "a", tmp_path / "b"
    assert find_cases(tmp_path) == [
        Case("a", a / "ref.png", hamer=a / "hamer.mp4", smpl=a / "smpl"),
        Case("b", b / "ref.webp", dwpose=b / "dwpose.pkl"),
    ]


def test_one_folder_per_kind(tmp_path):
    touch(
        tmp_path,
        "ref/take.1.png",
        "ref/x.jpg",
        "ref/.DS_Store",
        "dwpose/take.1/0.json",
        "hamer/x.mp4",
        "smpl/take.1.mp4",
    )
    assert find_cases(tmp_path) == [
        Case(
            "take.1",
            tmp_path / "ref/take.1.png",
            dwpose=tmp_path / "dwpose/take.1",
            smpl=tmp_path / "smpl/take.1.mp4",
        ),
        Case("x", tmp_path / "ref/x.jpg", hamer=tmp_path / "hamer/x.mp4"),
    ]


@pytest.mark.parametrize("layout", ["{0}/{1}", "{1}/{0}"])
def test_a_case_without_a_picture_is_not_passed_over(tmp_path, layout):
    """It fails when its turn comes, naming where the picture should be."""
    touch(tmp_path, layout.format("a", "ref") + ".png", layout.format("b", "hamer") + ".mp4")
    a, b = find_cases(tmp_path)
    assert a.reference.is_file()
    assert b.reference == tmp_path / (layout.format("b", "ref") + ".png")
    assert b.hamer == tmp_path / (layout.format("b", "hamer") + ".mp4")


@pytest.mark.parametrize("layout", ["{0}/{1}", "{1}/{0}"])
def test_two_files_for_one_thing_are_the_problem_of_their_case(tmp_path, layout):
    touch(tmp_path, layout.format("a", "ref") + ".png", layout.format("a", "ref") + ".jpg")
    touch(tmp_path, layout.format("b", "ref") + ".png")
    a, b = find_cases(tmp_path)
    assert re.search(r"\.png: expected one file of this name, found \w+\.jpg too$", a.problem)
    assert (b.name, b.problem) == ("b", "")


def test_the_folder_of_one_case(tmp_path):
    """As `prepare poses` leaves it: what its estimators wrote is no case."""
    folder = tmp_path / "dance"
    touch(folder, "ref.png", "dwpose.json", "dwpose_drawn.mp4", "estimated/dwpose.npz")
    case = Case("dance", folder / "ref.png", dwpose=folder / "dwpose.json")
    assert find_cases(folder) == [case] == [read_case(folder)] == find_cases(tmp_path)
    (folder / "ref.png").unlink()
    assert read_case(folder) == case
    with pytest.raises(UserError, match=r"expected a case \(ref.png, .*found none"):
        read_case(tmp_path)
    with pytest.raises(UserError, match=r"expected the folder of a case, found no such folder"):
        read_case(tmp_path / "none")


def test_what_a_case_reads():
    ref, hamer = Path("ref.png"), Path("hamer.mp4")
    assert Case("", ref, hamer=hamer).files == (ref, hamer)


def test_no_cases(tmp_path):
    touch(tmp_path, "readme.txt", "empty/readme.txt")
    with pytest.raises(UserError, match=r"expected cases .* found none"):
        find_cases(tmp_path)
    with pytest.raises(UserError, match=r"readme.txt: expected a folder of cases"):
        find_cases(tmp_path / "readme.txt")
