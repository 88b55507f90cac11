"""A folder of cases: which picture goes with which drivers."""

import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from realisdance_jax.models.config import CONDITIONS
from realisdance_jax.utils.errors import UserError

KINDS = ("ref", *CONDITIONS)


@dataclass(frozen=True)
class Case:
    """One animation to make; absent drivers are None. problem: why it cannot be made, if known."""

    name: str
    reference: Path
    dwpose: Path | None = None
    hamer: Path | None = None
    smpl: Path | None = None
    problem: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """What is read."""
        given = (self.reference, self.dwpose, self.hamer, self.smpl)
        return tuple(path for path in given if path is not None)


def find_cases(root: Path) -> list[Case]:
    """Cases of `root`, in name order.

    Either one folder per case, with `ref.*` and any of `dwpose.*`, `hamer.*`, `smpl.*`; or one
    folder per kind, `ref/NAME.png`, `dwpose/NAME.pkl`, `hamer/NAME.mp4`, `smpl/NAME.mp4`; or
    `root` is a case itself, with a picture `ref.*`.
    Whether files are any good, or a picture there at all, is seen when the case runs; that there
    are two files for one thing is the case's `problem`. Raises `UserError` for neither layout.
    """
    if not os.path.isdir(root):
        raise UserError(f"{root}: expected a folder of cases, found no such folder")
    if (root / "ref").is_dir():
        files = {kind: _by_name(root / kind) for kind in KINDS}
        names = sorted(set().union(*files.values()))
        found = {name: {kind: files[kind].get(name, []) for kind in KINDS} for name in names}
        cases = [_case(name, root / "ref" / f"{name}.png", found[name]) for name in names]
    elif any(path.is_file() for path in _by_name(root, ("ref",)).get("ref", ())):
        cases = [read_case(root)]
    else:
        folders = sorted(path for path in root.iterdir() if not path.name.startswith("."))
        inside = {folder: _by_name(folder, KINDS) for folder in folders}
        cases = [_case(f.name, f / "ref.png", files) for f, files in inside.items() if files]
    if not cases:
        raise UserError(f"{root}: expected cases (NAME/ref.png or ref/NAME.png), found none")
    return cases


def read_case(folder: Path) -> Case:
    """The case that `folder` is. Raises `UserError` when it holds nothing of one."""
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: expected the folder of a case, found no such folder")
    files = _by_name(folder, KINDS)
    if not files:
        raise UserError(f"{folder}: expected a case (ref.png, dwpose.json, ...), found none")
    return _case(folder.resolve().name, folder / "ref.png", files)


def _case(name: str, absent: Path, files: Mapping[str, Sequence[Path]]) -> Case:
    """A case of `files` by kind; a missing picture will be looked for, in vain, at `absent`."""
    reference, *drivers = (next(iter(files.get(kind, ())), None) for kind in KINDS)
    problem = ""
    for several in files.values():
        if len(several) > 1:
            path, other = several[1], several[0]
            problem = f"{path}: expected one file of this name, found {other.name} too"
    return Case(name, reference or absent, *drivers, problem=problem)


def _by_name(folder: Path, wanted: Container[str] | None = None) -> dict[str, list[Path]]:
    """Visible entries of `folder` by name, files without their suffix; only `wanted` ones."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = path.name if path.is_dir() else path.stem
        if path.name.startswith(".") or (wanted is not None and name not in wanted):
            continue
        found.setdefault(name, []).append(path)
    return found
