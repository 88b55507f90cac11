"""From a recipe to a placed train step: shapes and shardings first, values straight into them."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding

from realisdance_jax.checkpoints.variables import (
    ALL_COMPONENTS,
    abstract_component,
    boxed_component,
)
from realisdance_jax.checkpoints.weights import Manifest, load_component, merge
from realisdance_jax.data.transforms import dino_size
from realisdance_jax.models.compute import exact_products
from realisdance_jax.models.dinov2 import DinoV2, zero_image
from realisdance_jax.models.realisdance import COMPONENTS
from realisdance_jax.parallel.mesh import make_mesh
from realisdance_jax.parallel.shard import (
    batch_sharding,
    check_batch,
    check_frames,
    parameter_shardings,
    replicated,
)
from realisdance_jax.training.idle import expanded
from realisdance_jax.training.optim import make_optimizer, trainable_paths
from realisdance_jax.training.recipe import DTYPES, Recipe
from realisdance_jax.training.step import Frozen, Networks, TrainState, make_train_step
from realisdance_jax.utils.tree import Flat, flatten, split

PARAMETERS = "params/"


@dataclass(frozen=True, eq=False)
class Program:
    """A train step and where everything lives; no value is in memory yet.

    step: the pure function. state, frozen: `jax.ShapeDtypeStruct` with shardings.
    """

    recipe: Recipe
    mesh: Mesh
    networks: Networks
    optimizer: optax.GradientTransformation
    step: Any
    state: TrainState
    frozen: Frozen

    @property
    def batch_sharding(self) -> NamedSharding:
        """Of every array of a batch."""
        return batch_sharding(self.mesh)

    def compiled(self) -> Any:
        """The step as a jitted function that takes over the memory of the state it is given."""
        state = jax.tree.map(lambda leaf: leaf.sharding, self.state)
        frozen = jax.tree.map(lambda leaf: leaf.sharding, self.frozen)
        return jax.jit(
            self.step,
            donate_argnums=0,
            in_shardings=(state, frozen, self.batch_sharding),
            out_shardings=(state, replicated(self.mesh)),
        )


def _abstract(recipe: Recipe, component: str, mesh: Mesh) -> Mapping[str, dict]:
    """Shapes of a component's variables in float32 with their shardings."""
    shardings = parameter_shardings(boxed_component(recipe.model, component), mesh)
    return jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        dict(abstract_component(recipe.model, component)),
        shardings,
    )


def _kernel_dtype(path: str, leaf: Any, dtype: Any) -> Any:
    """Frozen kernels are kept as they are computed with; norms, biases and tables in float32."""
    return dtype if path.startswith(PARAMETERS) and len(leaf.shape) > 1 else jnp.float32


def _optimizer_state(optimizer: optax.GradientTransformation, trainable: Flat, mesh: Mesh) -> Any:
    """Shapes of the optimizer's state; moments lie as the parameters they belong to."""
    whole = replicated(mesh)

    def is_masked(leaf: Any) -> bool:
        """A parameter that this half of the optimizer leaves to the other one."""
        return isinstance(leaf, optax.MaskedNode)

    def beside(leaf: Any, parameter: Any) -> Any:
        if is_masked(leaf):
            return leaf
        where = parameter.sharding if leaf.shape == parameter.shape else whole
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

    return optax.tree_utils.tree_map_params(
        optimizer,
        beside,
        jax.eval_shape(optimizer.init, trainable),
        trainable,
        transform_non_params=lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=whole
        ),
        is_leaf=is_masked,
    )


def make_program(recipe: Recipe, devices: list | None = None, cached: bool = False) -> Program:
    """The program of `recipe` on `devices` (all by default), which may be ones to compile for only.

    cached: whether batches carry DINOv2 tokens, so that dropped examples need those of a zero
    picture. Raises `UserError` for a mesh, batch or clip that does not divide, and for patterns
    that do not cover the parameters.
    """
    mesh = make_mesh(recipe.mesh, devices)
    check_batch(mesh, recipe.data.batch, recipe.optim.accumulate)
    check_frames(mesh, recipe.data.frames)
    networks = Networks.of(recipe.model, recipe.schedule, recipe.compute(mesh))
    conditions = len(recipe.model.pose.conditions)
    optimizer = make_optimizer(recipe.optim, recipe.train.steps, conditions)
    step = make_train_step(
        networks,
        recipe.loss,
        optimizer,
        recipe.seed,
        recipe.optim.accumulate,
        recipe.optim.ema,
    )
    parts = {name: _abstract(recipe, name, mesh) for name in ALL_COMPONENTS}
    flat = flatten(merge(*(dict(parts[name]) for name in COMPONENTS)))
    trainable, rest = split(
        flat, trainable_paths(flat, expanded(recipe.train.trainable, recipe.model))
    )
    rest = {path: _stored(path, leaf, DTYPES[recipe.train.dtype]) for path, leaf in rest.items()}
    whole = replicated(mesh)
    number: Any = jax.ShapeDtypeStruct((), jnp.int32, sharding=whole)
    ema = dict(trainable) if recipe.optim.ema is not None else {}
    moments = _optimizer_state(optimizer, trainable, mesh)
    state = TrainState(number, trainable, moments, ema, number)
    tokens: Any = _token_shape(recipe, whole) if cached else None
    frozen = Frozen(rest, dict(parts["image_encoder"]), parts["vae"]["params"], tokens)
    return Program(recipe, mesh, networks, optimizer, step, state, frozen)


def _stored(path: str, leaf: Any, dtype: Any) -> jax.ShapeDtypeStruct:
    kind = _kernel_dtype(path, leaf, dtype)
    return jax.ShapeDtypeStruct(leaf.shape, kind, sharding=leaf.sharding)


def _token_shape(recipe: Recipe, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    height, width = (side // recipe.model.dino.patch for side in dino_size(recipe.data.size))
    shape = (1, 1 + height * width, recipe.model.dino.width)
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)


def load_frozen(program: Program, folder: Path, manifest: Manifest) -> tuple[Flat, Frozen]:
    """Starting values of what trains, and what does not, read straight into their shardings."""

    def read(name: str) -> dict:
        shardings = parameter_shardings(boxed_component(manifest.model, name), program.mesh)
        return load_component(folder, manifest, name, jnp.float32, shardings)

    trainable: Flat = {}
    rest: Flat = {}
    for name in COMPONENTS:
        inside, outside = split(flatten(read(name)), program.state.trainable)
        trainable |= inside
        rest |= {path: x.astype(program.frozen.model[path].dtype) for path, x in outside.items()}
    dino = read("image_encoder")
    frozen = Frozen(rest, dino, read("vae")["params"])
    if program.frozen.zero_tokens is None:
        return trainable, frozen
    network = DinoV2(program.recipe.model.dino)
    picture = zero_image(1, *dino_size(program.recipe.data.size))
    run = jax.jit(network.apply, out_shardings=replicated(program.mesh))
    with exact_products():
        return trainable, frozen._replace(zero_tokens=run(dino, picture))


def first_state(program: Program, trainable: Flat) -> TrainState:
    """The state before the first step; moments are born in their shardings."""
    place = jax.tree.map(lambda leaf: leaf.sharding, program.state)
    ema = jax.tree.map(jnp.copy, trainable) if program.state.ema else {}
    moments = jax.jit(program.optimizer.init, out_shardings=place.opt_state)(trainable)
    zero = jax.device_put(jnp.int32(0), place.step)
    return TrainState(zero, trainable, moments, ema, jnp.copy(zero))


def batch_shapes(program: Program, cached: bool) -> dict[str, jax.ShapeDtypeStruct]:
    """What a global batch looks like, of pictures or of cached latents."""
    data, model = program.recipe.data, program.recipe.model
    (height, width), b, f = data.size, data.batch, data.frames
    factor = program.networks.vae.factor
    latent = (height // factor, width // factor, model.unet.in_channels)
    channels = 3 * len(data.conditions)
    if cached:
        tokens = _token_shape(program.recipe, program.batch_sharding).shape[1:]
        shapes = {
            **{f"latent_{part}": (b, f, *latent) for part in ("mean", "std")},
            **{f"reference_{part}": (b, *latent) for part in ("mean", "std")},
            "tokens": (b, *tokens),
        }
    else:
        shapes = {
            "video": (b, f, height, width, 3),
            "reference": (b, height, width, 3),
            "encoder_image": (b, *dino_size(data.size), 3),
        }
    kinds = {name: (shape, jnp.float32) for name, shape in shapes.items()}
    kinds["conditions"] = (b, f, height, width, channels), jnp.uint8 if cached else jnp.float32
    return {
        name: jax.ShapeDtypeStruct(shape, kind, sharding=program.batch_sharding)
        for name, (shape, kind) in kinds.items()
    }


def plain(program: Program) -> Program:
    """The same step on one device with nothing recomputed, to count its work."""
    train = dataclasses.replace(program.recipe.train, attention="xla", remat="none")
    recipe = dataclasses.replace(program.recipe, train=train, mesh={})
    cached = program.frozen.zero_tokens is not None
    # One of the program's own: a run may be restricted to a platform without CPUs.
    return make_program(recipe, list(program.mesh.devices.flat[:1]), cached)
