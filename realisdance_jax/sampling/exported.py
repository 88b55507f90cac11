"""Traced programs in a file (`sample --export`, `--exported`), to be used without tracing again.

A zip of one `jax.export` blob per program and `programs.json`: what they were made for, and which
blob is which program. A program goes by its name and the shapes of its inputs; those of the weights
follow from what the file was made for.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp

from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output

FORMAT = 1
INDEX = "programs.json"
KERNELS = ("__cudnn$fmhaSoftmax", "__cudnn$fmhaScaleBiasSoftmax")
"""Which JAX does not promise to keep; those of another cuDNN are refused when they are compiled."""


@dataclass(frozen=True)
class Target:
    """What programs are made for. model: its configuration, hashed."""

    model: str
    dtype: str
    platform: str
    device_kind: str
    devices: int
    devices_per_window: int
    package: str
    jax: str


@dataclass(frozen=True)
class Stored:
    """Programs of a file by their names."""

    file: str
    programs: Mapping[str, jax.export.Exported]

    def find(self, name: str) -> jax.export.Exported:
        """Raises `UserError` when there is none for these shapes."""
        if name in self.programs:
            return self.programs[name]
        kind = name.split(" of ")[0]
        others = [other for other in sorted(self.programs) if other.split(" of ")[0] == kind]
        found = "; ".join(others) or f"none of {len(self.programs)} that is called so"
        raise UserError(f"{self.file}: expected the program {name}, found {found}")


def program_name(kind: str, inputs: Any) -> str:
    """The `kind` of program and what it takes beside the weights: the largest array, and a hash."""
    leaves = [f"{x.dtype}[{','.join(map(str, x.shape))}]" for x in jax.tree.leaves(inputs)]
    largest = max(zip((x.size for x in jax.tree.leaves(inputs)), leaves, strict=True))[1]
    return f"{kind} of {largest} ({hashlib.sha256(repr(leaves).encode()).hexdigest()[:8]})"


def export_program(jitted: Any, *inputs: Any) -> jax.export.Exported:
    """`jitted`, traced and lowered for `inputs`."""
    checks = [jax.export.DisabledSafetyCheck.custom_call(kernel) for kernel in KERNELS]
    return jax.export.export(jitted, disabled_checks=checks)(*inputs)


def used_only(exported: jax.export.Exported) -> Callable[..., Any]:
    """`exported.call` for `jax.jit`, which then sends the devices only what the program uses.

    `call` itself binds all arguments, so that weights resting on the host would be sent each time.
    """
    used = set(exported.module_kept_var_idx)

    def call(*args: Any) -> Any:
        leaves, tree = jax.tree.flatten(args)
        leaves = [x if i in used else jnp.zeros(x.shape, x.dtype) for i, x in enumerate(leaves)]
        return exported.call(*jax.tree.unflatten(tree, leaves))

    return call


def write_programs(file: Path, target: Target, programs: Mapping[str, Any]) -> None:
    """Write `programs` (by name, as `export_program` gives them)."""
    names = {f"{i}.bin": name for i, name in enumerate(programs)}
    index = {"format": FORMAT, "target": asdict(target), "programs": names}
    with (
        atomic_output(file) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        archive.writestr(INDEX, json.dumps(index, indent=1))
        for blob, name in names.items():
            archive.writestr(blob, bytes(programs[name].serialize()))


def read_programs(file: Path, target: Target) -> Stored:
    """The programs of `file`.

    Raises `UserError` for a file that is no such thing, for one of another format, and for one that
    was made for something else than `target`.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            index = json.loads(archive.read(INDEX))
            if index["format"] != FORMAT:
                raise UserError(f"{file}: expected format {FORMAT}, found {index['format']!r}")
            _check_target(file, target, index["target"])
            blobs = {name: archive.read(blob) for blob, name in index["programs"].items()}
            programs = {name: jax.export.deserialize(bytearray(b)) for name, b in blobs.items()}
    except UserError:
        raise
    except Exception as error:  # flatbuffers and JAX raise whatever they meet in damaged files
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        expected = "expected programs that `sample --export` wrote"
        raise UserError(f"{file}: {expected}, found {reason}") from None
    return Stored(str(file), programs)


def _check_target(file: Path, target: Target, found: Mapping[str, Any]) -> None:
    for name, wanted in asdict(target).items():
        if found.get(name) != wanted:
            what = name.replace("_", " ")
            raise UserError(
                f"{file}: {what}: expected programs for {wanted}, found {found.get(name)!r}"
            )
