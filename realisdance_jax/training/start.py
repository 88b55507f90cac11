"""What a run started from, so that a later call cannot mean something else without a word."""

import json
from pathlib import Path
from typing import Any

from realisdance_jax.checkpoints.export import weights_of
from realisdance_jax.checkpoints.weights import read_manifest
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output, existing_file

START = "start.json"


def read_start(init: Path | None, motion: Path | None) -> dict[str, Any]:
    """Where the weights come from, and which they are; `UserError` for what is no such thing."""
    if motion is not None and init is None:
        raise UserError(f"{motion}: expected --init beside --motion, found none")
    return {"--init": _weights(init), "--motion": _checkpoint(motion)}


def store_start(run: Path, start: dict[str, Any]) -> None:
    """Write RUN/start.json, which `check_start` compares with."""
    with atomic_output(run / START) as partial:
        partial.write_text(json.dumps(start, indent=1) + "\n", "utf-8")


def check_start(run: Path, init: Path | None, motion: Path | None) -> None:
    """Raise `UserError` unless the sources given, if any, are those that the run started from.

    The same path is the same source; another path may hold the same weights.
    """
    if not (run / START).is_file():
        return
    stored = json.loads((run / START).read_text("utf-8"))
    for option, path, read in (("--init", init, _weights), ("--motion", motion, _checkpoint)):
        before = stored[option]
        if path is None or (before and before["path"] == str(path.resolve())):
            continue
        now = read(path)
        if before is None or now is None or before["content"] != now["content"]:
            found = before["path"] if before else f"no {option}"
            raise UserError(
                f"{run}: expected the source the run started from, {found}, or none; found "
                f"{option} {path}; take another --workdir"
            )


def _weights(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    folder = weights_of(path, lambda line: None)
    return {"path": str(path.resolve()), "content": read_manifest(folder).weight_hash}


def _checkpoint(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    size = existing_file(path, "an AnimateDiff checkpoint").stat().st_size
    return {"path": str(path.resolve()), "content": [path.name, size]}
