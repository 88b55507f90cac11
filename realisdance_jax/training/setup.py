"""From a configuration and starting weights to placed state; nothing is whole on one device."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from realisdance_jax.checkpoints.variables import ALL_COMPONENTS, boxed_component
from realisdance_jax.checkpoints.weights import Manifest, load_component
from realisdance_jax.data.config import DataConfig
from realisdance_jax.data.transforms import dino_size
from realisdance_jax.diffusion.schedule import ScheduleConfig
from realisdance_jax.models.config import RealisDanceConfig
from realisdance_jax.models.dinov2 import DinoV2, zero_image
from realisdance_jax.models.realisdance import COMPONENTS
from realisdance_jax.parallel.mesh import make_mesh
from realisdance_jax.parallel.shard import (
    batch_sharding,
    check_batch,
    parameter_shardings,
    replicated,
)
from realisdance_jax.training.optim import OptimConfig, make_optimizer, trainable_paths
from realisdance_jax.training.step import (
    Frozen,
    LossConfig,
    Networks,
    TrainState,
    make_train_step,
)
from realisdance_jax.utils.records import from_json
from realisdance_jax.utils.tree import flatten, split


@dataclass(frozen=True)
class Recipe:
    """The typed parts of a configuration."""

    model: RealisDanceConfig
    schedule: ScheduleConfig
    loss: LossConfig
    optim: OptimConfig

    @classmethod
    def of(cls, config: ConfigDict) -> "Recipe":
        """Checked parts; a wrong value raises `UserError` with its key."""
        values = config.to_dict()
        return cls(
            from_json(RealisDanceConfig, values["model"], "config.model"),
            from_json(ScheduleConfig, values["schedule"], "config.schedule"),
            from_json(LossConfig, values["loss"], "config.loss"),
            from_json(OptimConfig, values["optim"], "config.optim"),
        )


@dataclass(frozen=True, eq=False)
class Run:
    """A placed run: the jitted step (state, frozen, batch) -> (state, metrics) and its inputs."""

    mesh: Mesh
    state: TrainState
    frozen: Frozen
    step: Any
    batch_sharding: Any

    def with_state(self, state: Mapping[str, Any]) -> "Run":
        """This run at a restored state."""
        return dataclasses.replace(self, state=TrainState(**state))


def load_placed(folder: Path, manifest: Manifest, mesh: Mesh) -> dict[str, dict]:
    """Variables of every component, read straight into their shardings."""
    placed = {}
    for name in ALL_COMPONENTS:
        shardings = parameter_shardings(boxed_component(manifest.model, name), mesh)
        placed[name] = load_component(folder, manifest, name, jnp.float32, shardings)
    return placed


def place(config: ConfigDict, folder: Path, manifest: Manifest, devices: list | None = None) -> Run:
    """Load `folder` onto the mesh of `config` and compile nothing yet.

    Raises `UserError` for a mesh or batch that does not divide.
    """
    recipe = Recipe.of(config)
    mesh = make_mesh(config.mesh.to_dict(), devices)
    check_batch(mesh, config.data.batch, config.optim.accumulate)
    parts = load_placed(folder, manifest, mesh)
    flat = {}
    for name in COMPONENTS:
        flat |= flatten(parts[name])
    trainable, rest = split(flat, trainable_paths(flat, config.train.trainable))
    optimizer = make_optimizer(recipe.optim, config.train.steps)
    networks = Networks.of(recipe.model, recipe.schedule, jnp.dtype(config.train.dtype))
    step = make_train_step(
        networks, recipe.loss, optimizer, config.seed, recipe.optim.accumulate, recipe.optim.ema
    )
    ema = jax.tree.map(jnp.copy, trainable) if recipe.optim.ema is not None else {}
    state = TrainState(
        jnp.int32(0), trainable, jax.jit(optimizer.init)(trainable), ema, jnp.int32(0)
    )
    frozen = Frozen(rest, parts["image_encoder"], parts["vae"]["params"])
    jitted = jax.jit(step, donate_argnums=0)
    return Run(mesh, state, frozen, jitted, batch_sharding(mesh))


def zero_tokens(run: Run, recipe: Recipe, data: DataConfig) -> dict[str, jax.Array]:
    """DINOv2 tokens of a zero picture, which dropped examples of cached datasets see (H4)."""
    dino = DinoV2(recipe.model.dino)
    picture = zero_image(1, *dino_size(data.size))
    tokens = jax.jit(dino.apply)(run.frozen.dino, picture)
    return {"zero_tokens": jax.device_put(tokens, replicated(run.mesh))}
