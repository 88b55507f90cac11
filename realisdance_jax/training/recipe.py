"""The typed parts of a training configuration."""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from realisdance_jax.data.config import DataConfig
from realisdance_jax.diffusion.schedule import ScheduleConfig
from realisdance_jax.models.compute import AttentionKind, Compute, RematPolicy
from realisdance_jax.models.config import RealisDanceConfig
from realisdance_jax.training.optim import OptimConfig
from realisdance_jax.training.step import LossConfig
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.records import from_json

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclass(frozen=True)
class TrainConfig:
    """How a run goes.

    workers: data processes per host. trainable: (pattern, train or frozen) over parameter paths,
    see `utils/tree.py`. dtype: of computation, and of frozen kernels in memory. remat, attention:
    see `models/compute.py`. keep: checkpoints kept. preview_every: steps between sample videos of
    the held-out case, 0 is never; preview_steps: denoising steps of one.
    """

    steps: int
    workers: int
    trainable: tuple[tuple[str, str], ...]
    dtype: Literal["float32", "bfloat16"]
    remat: RematPolicy
    attention: AttentionKind
    save_every: int
    keep: int
    log_every: int
    preview_every: int
    preview_steps: int

    def __post_init__(self):
        for name in ("steps", "save_every", "keep", "log_every", "preview_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"train.{name}: expected at least 1, found {getattr(self, name)}")
        for name in ("workers", "preview_every"):
            if getattr(self, name) < 0:
                raise UserError(f"train.{name}: expected at least 0, found {getattr(self, name)}")


@dataclass(frozen=True)
class Recipe:
    """A configuration, checked. mesh: axis sizes, one may be -1."""

    stage: int
    seed: int
    model: RealisDanceConfig
    schedule: ScheduleConfig
    data: DataConfig
    loss: LossConfig
    optim: OptimConfig
    train: TrainConfig
    mesh: dict[str, int]

    @classmethod
    def of(cls, config: ConfigDict) -> "Recipe":
        """Raises `UserError` with the key of a wrong value."""
        values = config.to_dict()
        given, known = values["data"]["conditions"], values["model"]["pose"]["conditions"]
        if tuple(given) != tuple(known):
            raise UserError(f"config.data.conditions: expected the model's {known}, found {given}")
        recipe = cls(
            values["stage"],
            values["seed"],
            from_json(RealisDanceConfig, values["model"], "config.model"),
            from_json(ScheduleConfig, values["schedule"], "config.schedule"),
            from_json(DataConfig, values["data"], "config.data"),
            from_json(LossConfig, values["loss"], "config.loss"),
            from_json(OptimConfig, values["optim"], "config.optim"),
            from_json(TrainConfig, values["train"], "config.train"),
            values["mesh"],
        )
        _check_values(recipe)
        return recipe

    def compute(self, mesh: Mesh) -> Compute:
        """How the networks run on `mesh`."""
        train = self.train
        return Compute(DTYPES[train.dtype], train.attention, train.remat, mesh, training=True)


def _check_values(recipe: Recipe) -> None:
    """Raise `UserError` for numbers that mean nothing, or that do not go together."""
    loss, frames = recipe.loss, recipe.data.frames
    for name in ("drop", "shuffle"):
        if not 0 <= (share := getattr(loss, name)) <= 1:
            raise UserError(f"config.loss: {name}: expected 0 to 1, found {share}")
    if not loss.snr_gamma > 0:
        raise UserError(f"config.loss: snr_gamma: expected above 0, found {loss.snr_gamma}")
    last = recipe.schedule.num_train_timesteps - 1
    if not 0 <= (least := loss.least_timestep) <= last:
        raise UserError(f"config.loss: least_timestep: expected 0 to {last}, found {least}")
    motion = recipe.model.motion
    if motion is not None and frames > motion.max_frames:
        expected = f"1 to {motion.max_frames} (model.motion.max_frames)"
        raise UserError(f"config.data: frames: expected {expected}, found {frames}")
