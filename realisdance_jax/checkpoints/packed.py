"""A weights folder as one small file in half precision, to be shipped, and back.

One vector per component, its leaves in the order of their paths: names and shapes follow from the
configuration, and so do position tables, which are left out.
"""

import dataclasses
import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from realisdance_jax.checkpoints.variables import ALL_COMPONENTS, abstract_component
from realisdance_jax.checkpoints.weights import (
    Manifest,
    load_component,
    manifest_of,
    read_manifest,
    save_component,
    write_manifest,
)
from realisdance_jax.models.motion import sinusoid_table
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output
from realisdance_jax.utils.records import to_json
from realisdance_jax.utils.tree import flatten, unflatten

MANIFEST, TABLE = "manifest", "/pe"

DAMAGED = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What numpy and zipfile raise for files that are no archives of arrays, or damaged ones."""


def pack_weights(folder: Path, out: Path) -> int:
    """Write `out` (.npz); returns its size in bytes. Raises `UserError` for values beyond half."""
    manifest = read_manifest(folder)
    arrays: dict[str, Any] = {}
    for component in manifest.components:
        leaves = flatten(load_component(folder, manifest, component))
        parts = [np.ravel(leaves[path]) for path in sorted(leaves) if not path.endswith(TABLE)]
        with np.errstate(over="ignore"):
            arrays[component] = np.concatenate(parts).astype(np.float16)
        if not np.isfinite(arrays[component]).all():
            raise UserError(f"{folder}: {component}: expected values in half precision's range")
    arrays[MANIFEST] = np.frombuffer(json.dumps(to_json(manifest)).encode(), np.uint8)
    with atomic_output(out) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return out.stat().st_size


def unpack_weights(file: Path, folder: Path) -> Manifest:
    """Write the weights folder that `file` was made of, rounded to half precision.

    Raises `UserError` for a file that is no such thing, or does not hold what its manifest says.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            told = json.loads(bytes(arrays[MANIFEST]))
            flat = {name: arrays[name] for name in arrays.files if name != MANIFEST}
    except DAMAGED as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{file}: expected packed weights, found {reason}") from None
    manifest = manifest_of(told, str(file))
    if flat.keys() != manifest.components.keys() or not flat.keys() <= set(ALL_COMPONENTS):
        expected = f"some of {', '.join(ALL_COMPONENTS)}, as its manifest says"
        raise UserError(f"{file}: expected {expected}, found {', '.join(sorted(flat)) or 'none'}")
    hashes = {}
    with atomic_output(folder) as draft:
        draft.mkdir()
        for name in manifest.components:
            variables = _whole(file, name, manifest, flat[name])
            hashes[name] = save_component(draft, name, variables)
        return write_manifest(draft, dataclasses.replace(manifest, components=hashes))


def _whole(file: Path, component: str, manifest: Manifest, values: np.ndarray) -> dict:
    """Variables of one component in float32, with their tables."""
    leaves = flatten(abstract_component(manifest.model, component))
    sizes = {p: math.prod(x.shape) for p, x in sorted(leaves.items()) if not p.endswith(TABLE)}
    if values.dtype != np.float16:
        raise UserError(f"{file}: {component}: expected half precision, found {values.dtype}")
    if values.shape != (expected := (sum(sizes.values()),)):
        raise UserError(f"{file}: {component}: expected {expected[0]} values, found {values.size}")
    if not np.isfinite(values).all():
        raise UserError(f"{file}: {component}: expected finite values, found others")
    pieces = np.split(values, np.cumsum(list(sizes.values()))[:-1])
    found = {
        path: jnp.asarray(piece.reshape(leaves[path].shape), jnp.float32)
        for path, piece in zip(sizes, pieces, strict=True)
    }
    for path in leaves.keys() - found.keys():
        found[path] = jnp.asarray(sinusoid_table(*leaves[path].shape[1:]))
    return unflatten(found)
