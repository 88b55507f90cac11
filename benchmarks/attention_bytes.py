"""Temporaries of one attention layer on TPUs that are not there.

`python -m benchmarks.attention_bytes --topology v5e:2x2`: the outermost spatial layer of a window
of 16 frames at 768x576 that read their reference, in bfloat16, the frames spread over the devices,
compiled by the TPUs' own compiler in every way it takes. For GPUs see `plan`, whose whole step
takes a minute.
"""

import argparse
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.attention import KINDS, READER
from benchmarks.measure import program_bytes
from realisdance_jax.models import attend as ways
from realisdance_jax.models.compute import Compute
from realisdance_jax.parallel.mesh import make_mesh
from realisdance_jax.planning.topology import TPU_HOST, parse_topology
from realisdance_jax.utils.errors import UserError, exit_on_user_error

FRAMES = 16


def temporaries(kind: str, mesh: Mesh) -> str:
    """GiB on one device, or what the compiler says when it needs more than there is."""
    n, heads, width = READER
    compute = Compute(jnp.bfloat16, kind, mesh=mesh)

    def shape(*axes: int, spec: PartitionSpec) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(axes, jnp.bfloat16, sharding=NamedSharding(mesh, spec))

    frames = shape(1, FRAMES, n, heads, width, spec=PartitionSpec(None, "frames"))
    clip = shape(1, n, heads, width, spec=PartitionSpec())
    attend = jax.jit(functools.partial(ways.attend, compute=compute))
    try:
        compiled = attend.lower(frames, (frames, frames), (clip, clip)).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return str(error).splitlines()[0]
    return f"{program_bytes(compiled) / 2**30:.2f} GiB"


def kinds(mesh: Mesh) -> Iterator[str]:
    """The ways that are not replaced by another one for this shape."""
    n, heads, width = READER
    sizes = ways.Sizes(1, FRAMES // mesh.size, n, n, n, heads, width)
    for kind in KINDS:
        if ways.choose(sizes, Compute(jnp.bfloat16, kind, mesh=mesh)) == kind:
            yield kind


def check(name: str) -> None:
    """Raise `UserError` unless `name` is of TPUs among which the frames can be divided."""
    count = len(parse_topology(name, quick=True).devices)
    if name.split(":")[0] not in TPU_HOST:
        found = f"found {name} (for GPUs see plan)"
        raise UserError(f"--topology: expected TPUs ({', '.join(TPU_HOST)}), {found}")
    if FRAMES % count:
        expected = f"expected a number of devices that divides {FRAMES} frames"
        raise UserError(f"--topology: {expected}, found {count} in {name}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.attention_bytes", description=__doc__)
    parser.add_argument("--topology", required=True, help="of TPUs, as plan takes it: v5e:2x2")
    name = parser.parse_args().topology
    check(name)
    topology = parse_topology(name)
    mesh = make_mesh({"data": 1, "frames": len(topology.devices)}, topology.devices)
    print(f"{topology.name}, {topology.compiler}")
    for kind in kinds(mesh):
        print(f"{kind}: {temporaries(kind, mesh)}", flush=True)


if __name__ == "__main__":
    exit_on_user_error(main)
