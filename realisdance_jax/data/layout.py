"""The two official layouts on disk, as they are.

A folder: `video/NAME.mp4`, `hamer/NAME.mp4`, `smpl/NAME.mp4`, `dwpose/NAME.pkl`. An image list:
lines `dir,frame1,frame2,...` of pictures of one person, whose poses lie in parallel folders.
Files are named here; whether they exist is seen when they are read.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from realisdance_jax.data.clips import FileClip
from realisdance_jax.data.config import CONDITIONS
from realisdance_jax.utils.errors import UserError

_MARK = "/img/"
_KEYPOINT_SUFFIXES = (".pkl", ".pickle", ".json")
_LIST_SUFFIXES = (".txt", ".csv", ".lst")


def is_image_list(source: str | Path) -> bool:
    """Whether `source` is a text file rather than a folder."""
    return Path(source).suffix.lower() in _LIST_SUFFIXES and Path(source).is_file()


def video_root(source: str | Path, split: str) -> Path | None:
    """The folder that holds `video/`: `source` itself or its sub-folder `split`."""
    places = (Path(source), Path(source) / split)
    return next((place for place in places if (place / "video").is_dir()), None)


def read_video_folder(root: Path, conditions: Sequence[str]) -> list[FileClip]:
    """Clips of an official video folder, in the order of the names under `video/`.

    A folder of pictures may stand for a video, a `.json` or a folder of them for a `.pkl`, a video
    of drawn poses for keypoints. Raises `UserError` when a condition has no folder, there is no
    clip, or two entries have one name.
    """
    videos = _by_stem(root / "video")
    if not videos:
        raise UserError(f"{root / 'video'}: expected videos, found none")
    found = {}
    for condition in conditions:
        folder = root / condition
        if not folder.is_dir():
            raise UserError(
                f"{folder}: expected {condition} of {len(videos)} clips, found no such folder"
            )
        found[condition] = _by_stem(folder)
    return [
        _video_files(root, name, film, {kind: files.get(name) for kind, files in found.items()})
        for name, film in videos.items()
    ]


def _by_stem(folder: Path) -> dict[str, Path]:
    """Entries in the order of their full names, as the release sorts them; hidden ones left out.

    Raises `UserError` for two of one stem, of which one would be lost.
    """
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    found: dict[str, Path] = {}
    for entry in entries:
        other = found.setdefault(entry.stem, entry)
        if other is not entry:
            names = f"{other.name} and {entry.name}"
            raise UserError(f"{folder}: expected one entry per clip, found {names}")
    return found


def _video_files(root: Path, name: str, film: Path, paths: Mapping[str, Path | None]) -> FileClip:
    suffix = {"dwpose": ".pkl"}
    known = {
        kind: path or root / kind / f"{name}{suffix.get(kind, '.mp4')}"
        for kind, path in paths.items()
    }
    keypoints = known.get("dwpose")
    if keypoints is not None and _holds_keypoints(keypoints):
        known.pop("dwpose")
        return FileClip(name, film, known, keypoints)
    return FileClip(name, film, known)


def _holds_keypoints(path: Path) -> bool:
    if path.suffix.lower() in _KEYPOINT_SUFFIXES:
        return True
    return path.is_dir() and any(path.glob("*.json"))


def read_image_list(
    path: Path, conditions: Sequence[str], hamer_root: str = "", smpl_root: str = ""
) -> list[FileClip]:
    """Lines of an image list, each a clip whose frames need not follow each other.

    A picture `A/img/B.jpg` has its DWPose in `A/dwpose_json/B.json` and its HaMeR rendering in
    `A/hamer_img/B.png` or, given `hamer_root`, in `hamer_root/B.jpg` with spaces taken out; SMPL in
    `smpl_root` likewise. A relative folder is tried from here, then from beside the list.
    Raises `UserError` for an empty list, a line without pictures, a path without `/img/`, and SMPL
    without `smpl_root`.
    """
    if "smpl" in conditions and not smpl_root:
        raise UserError(f"{path}: expected smpl_root for the SMPL renderings, found none")
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected an image list ({error})") from None
    clips = []
    for number, line in enumerate(lines, start=1):
        fields = [field.strip() for field in line.split(",")]
        if not any(fields):
            continue
        pictures = [field for field in fields[1:] if field]
        if not pictures:
            raise UserError(f"{path}: line {number}: expected dir,frame1,frame2,... ({line!r:.80})")
        folder = _folder(fields[0], path)
        clips.append(
            _list_clip(
                path,
                number,
                folder,
                pictures,
                conditions,
                {"hamer": hamer_root, "smpl": smpl_root},
            )
        )
    if not clips:
        raise UserError(f"{path}: expected lines dir,frame1,frame2,..., found none")
    return clips


def _folder(name: str, path: Path) -> Path:
    folder = Path(name)
    return folder if folder.is_absolute() or folder.is_dir() else path.parent / folder


def _list_clip(
    path: Path,
    number: int,
    folder: Path,
    pictures: Sequence[str],
    conditions: Sequence[str],
    roots: Mapping[str, str],
) -> FileClip:
    files = tuple(folder / picture for picture in pictures)
    for file in files:
        if _MARK not in file.as_posix():
            raise UserError(f"{path}: line {number}: expected a path with {_MARK}, found {file}")
    places = {
        kind: tuple(_beside(file, kind, roots.get(kind, "")) for file in files)
        for kind in CONDITIONS
        if kind in conditions
    }
    keypoints = places.pop("dwpose", None)
    # Without the folder, which may lie elsewhere tomorrow; a folder may have several lines.
    return FileClip(f"line {number}: {pictures[0]}", files, places, keypoints)


def _beside(file: Path, kind: str, root: str) -> Path:
    """Where the condition `kind` of one picture lies."""
    before, _, after = file.as_posix().rpartition(_MARK)
    if root:
        return Path(root) / after.replace(" ", "")
    if kind == "dwpose":
        return Path(before, "dwpose_json", after).with_suffix(".json")
    return Path(before, f"{kind}_img", after).with_suffix(".png")
