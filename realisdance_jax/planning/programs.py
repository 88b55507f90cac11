"""The train step and the sampler's step, ready to be lowered onto devices that need not exist."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from realisdance_jax.checkpoints.variables import abstract_component, boxed_component
from realisdance_jax.checkpoints.weights import merge
from realisdance_jax.models.compute import Compute
from realisdance_jax.models.jaxpr_flops import count, total
from realisdance_jax.models.realisdance import COMPONENTS, RealisDance
from realisdance_jax.parallel.mesh import make_mesh
from realisdance_jax.parallel.shard import (
    batch_sharding,
    check_frames,
    parameter_shardings,
    replicated,
)
from realisdance_jax.sampling.arguments import step_shapes
from realisdance_jax.sampling.programs import Guidance, make_window_step
from realisdance_jax.training.program import batch_shapes, make_program
from realisdance_jax.training.recipe import DTYPES, Recipe
from realisdance_jax.training.work import step_flops
from realisdance_jax.utils.tree import flatten


@dataclass(frozen=True, eq=False)
class Planned:
    """A jitted function and the shapes it takes, with shardings.

    arguments: by name, for the table. leaves: parameters by path. flops: counts the work.
    """

    name: str
    mesh: Mesh
    jitted: Any
    arguments: dict[str, Any]
    leaves: dict[str, Any]
    flops: Callable[[], int]

    def lower(self) -> Any:
        """The lowered program."""
        return self.jitted.lower(*self.arguments.values())


def train_program(recipe: Recipe, devices: list[Any], cached: bool) -> Planned:
    """The whole train step."""
    program = make_program(recipe, devices, cached)
    arguments = {
        "state": program.state,
        "frozen": program.frozen,
        "batch": batch_shapes(program, cached),
    }
    leaves = {**program.frozen.model, **program.state.trainable}
    return Planned(
        f"stage {recipe.stage} train step, batch {recipe.data.batch} x {recipe.data.frames} frames",
        program.mesh,
        program.compiled(),
        arguments,
        leaves,
        lambda: step_flops(program, cached),
    )


def sample_program(recipe: Recipe, devices: list[Any], frames: int) -> Planned:
    """The sampler's program of one denoising step: a window of `frames` per data x fsdp shard.

    With guidance, weights in the compute dtype. Parameters follow the mesh as in training: whole
    copies unless `fsdp` or `tensor` is above 1.
    """
    mesh = make_mesh(recipe.mesh, devices)
    check_frames(mesh, frames)
    dtype, guidance = DTYPES[recipe.train.dtype], Guidance(3.5)
    model = RealisDance(recipe.model, Compute(dtype, recipe.train.attention, "none", mesh))
    plain = RealisDance(recipe.model, Compute(dtype, "xla"))
    windows = mesh.shape["data"] * mesh.shape["fsdp"]
    arguments = _sampler_arguments(recipe, plain, mesh, frames, windows)
    step = make_window_step(model, guidance)

    def flops() -> int:
        inputs = tuple(arguments.values())
        bare = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), inputs)
        return total(count(make_window_step(plain, guidance), *bare)[0])

    by_branch = NamedSharding(mesh, PartitionSpec(None, *batch_sharding(mesh).spec))
    jitted = jax.jit(step, out_shardings=by_branch)
    name = f"denoising step with guidance, {windows} window(s) of {frames} frames"
    return Planned(name, mesh, jitted, arguments, flatten(arguments["variables"]), flops)


def _variables(recipe: Recipe, mesh: Mesh) -> dict:
    """Shapes of the trained components in the compute dtype; norms and biases in float32."""

    def placed(leaf: Any, where: Any) -> jax.ShapeDtypeStruct:
        kind = DTYPES[recipe.train.dtype] if len(leaf.shape) > 1 else jnp.float32
        return jax.ShapeDtypeStruct(leaf.shape, kind, sharding=where)

    parts = []
    for name in COMPONENTS:
        shardings = parameter_shardings(boxed_component(recipe.model, name), mesh)
        shapes = dict(abstract_component(recipe.model, name))
        parts.append(jax.tree.map(placed, shapes, shardings))
    return merge(*parts)


def _sampler_arguments(
    recipe: Recipe, model: RealisDance, mesh: Mesh, frames: int, windows: int
) -> dict[str, Any]:
    """What the program of a batch of `windows` takes."""
    whole, by_window = replicated(mesh), batch_sharding(mesh)
    variables = _variables(recipe, mesh)
    shapes = step_shapes(model, variables, recipe.data.size, frames, windows)

    def on_mesh(tree: Any, sharding: Any) -> Any:
        def placed(x: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

        return jax.tree.map(placed, tree)

    return {
        "variables": variables,
        "clip": on_mesh(shapes.clip, whole),
        "pose": on_mesh(shapes.guided, by_window),
        "x": on_mesh(shapes.x, by_window),
        "t": on_mesh(shapes.t, whole),
    }
