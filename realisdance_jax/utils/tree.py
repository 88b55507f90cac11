"""Parameters by path: tables of regular expressions in which every leaf must match."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flax import traverse_util

from realisdance_jax.utils.errors import UserError

Flat = dict[str, Any]
"""Leaves by their path joined with `/`, collection first: `params/unet_main/conv_in/kernel`."""

NO_GRADIENT = "(no gradient)"
"""Stands in a table for the parameters of the reference UNet behind its last used tokens, whose
names depend on the model (parity.md: no gradient)."""


def flatten(variables: Mapping) -> Flat:
    """Leaves by joined path."""
    return traverse_util.flatten_dict(dict(variables), sep="/")


def unflatten(flat: Mapping[str, Any]) -> dict:
    """Inverse of `flatten`."""
    return traverse_util.unflatten_dict(dict(flat), sep="/")


def labels(paths: Iterable[str], table: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Label of each path: that of the first pattern found in it (`re.search`).

    Raises `UserError` naming paths that no pattern covers and patterns that cover no path.
    """
    found: dict[str, str] = {}
    unused = {pattern for pattern, _ in table}
    bare = []
    for path in paths:
        match = next(((p, label) for p, label in table if re.search(p, path)), None)
        if match is None:
            bare.append(path)
            continue
        unused.discard(match[0])
        found[path] = match[1]
    if bare:
        raise UserError(f"parameters: {len(bare)} match no pattern, such as {bare[0]}")
    if unused:
        raise UserError(f"parameters: pattern {min(unused)!r} matches none")
    return found


def split(flat: Mapping[str, Any], chosen: Iterable[str]) -> tuple[Flat, Flat]:
    """(leaves whose path is in `chosen`, the others)."""
    wanted = set(chosen)
    inside = {path: leaf for path, leaf in flat.items() if path in wanted}
    return inside, {path: leaf for path, leaf in flat.items() if path not in wanted}
