"""Files that users have, made from the oracle's, and what planning their conversion says."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from realisdance_jax.checkpoints.convert.components import is_motion
from realisdance_jax.checkpoints.convert.legacy_names import MM_V2_HOMELESS
from realisdance_jax.checkpoints.convert.plan import Draft, Request, plan
from realisdance_jax.checkpoints.convert.tensor_files import LazyTensor, open_tensors
from realisdance_jax.checkpoints.weights import Manifest
from tests.refusals import refusal

Tensors = Mapping[str, LazyTensor]


@dataclass(frozen=True)
class Converted:
    """A weights folder, its manifest and what was said while it was made."""

    folder: Path
    manifest: Manifest
    said: tuple[str, ...]


def planned(**paths: Path) -> tuple[Draft, list[str]]:
    """The draft for these files and what was said."""
    said: list[str] = []
    return plan(Request(**paths), said.append), said


def request_refusal(**paths: Path) -> str:
    """The one line with which these files are refused."""
    return refusal(plan, Request(**paths), lambda _: None)


def same(ours: Tensors, theirs: Tensors) -> bool:
    """Whether two sets of tensors have the same names, shapes, dtypes and bytes."""
    assert ours.keys() == theirs.keys()
    return all(
        (tensor.shape, tensor.dtype) == (theirs[name].shape, theirs[name].dtype)
        and tensor.read().tobytes() == theirs[name].read().tobytes()
        for name, tensor in ours.items()
    )


def changed(tensor: LazyTensor, change) -> LazyTensor:
    """`tensor` with `change` applied to its values when they are read."""
    array = change(np.zeros(tensor.shape, tensor.dtype))
    return LazyTensor(array.shape, array.dtype, lambda: change(tensor.read()))


def halves(tensors: Tensors) -> dict[str, LazyTensor]:
    """In float16."""
    return {name: changed(tensor, np.float16) for name, tensor in tensors.items()}


def under(tensors: Tensors, prefix: str) -> dict[str, LazyTensor]:
    """Tensors below `prefix`, without it."""
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def motion_twin(oracle_folder: Path) -> dict[str, LazyTensor]:
    """What mm_v2 would be for the tiny model: stage 2's motion modules plus 1, and 28 homeless."""
    main = under(open_tensors(oracle_folder / "stage2.safetensors").tensors, "unet_main.")
    twin = {k: changed(t, lambda x: x + 1) for k, t in main.items() if is_motion(k)}
    return twin | dict.fromkeys(MM_V2_HOMELESS, LazyTensor.of(np.ones((1, 2), np.float32)))


def without(tensors: Tensors, names: Iterable[str]) -> dict[str, LazyTensor]:
    return {name: tensor for name, tensor in tensors.items() if name not in set(names)}


def damaged(tensors: Tensors, name: str, how: str) -> dict[str, LazyTensor]:
    """`tensors` with one of them dropped, renamed or reshaped; its bytes stay as many."""
    tensor = tensors[name]
    if how == "dropped":
        return without(tensors, [name])
    if how == "renamed":
        return {k + "_" * (k == name): t for k, t in tensors.items()}
    shape = (-1,) if len(tensor.shape) > 1 else (1, -1)
    if how == "reshaped":
        return dict(tensors) | {name: changed(tensor, lambda x: x.reshape(shape))}
    assert how == "quantised"
    return dict(tensors) | {name: changed(tensor, lambda x: x.astype(np.int32))}
