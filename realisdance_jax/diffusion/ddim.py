"""DDIM (Song et al. 2021) as the release runs it (parity.md: H6).

A step goes from timestep t to t - T // steps, which is not quite the next entry of a linspace
list; below 0 it lands on the alpha_bar of timestep 0 (or 1, see `ScheduleConfig`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from realisdance_jax.diffusion.prediction import conversion
from realisdance_jax.diffusion.schedule import ScheduleConfig, alphas_cumprod
from realisdance_jax.shapes import Array, Float, Int, typechecked


class DdimTable(NamedTuple):
    """Coefficients per step: x_0 and eps from (x_t, output), x' from (x_0, eps, fresh noise)."""

    x0_x: Float[np.ndarray, "n"]
    x0_out: Float[np.ndarray, "n"]
    eps_x: Float[np.ndarray, "n"]
    eps_out: Float[np.ndarray, "n"]
    next_x0: Float[np.ndarray, "n"]
    next_eps: Float[np.ndarray, "n"]
    next_noise: Float[np.ndarray, "n"]


@typechecked
def previous_timesteps(
    config: ScheduleConfig, timesteps: Int[np.ndarray, "n"]
) -> Int[np.ndarray, "n"]:
    """The timestep each step goes to; negative means past timestep 0."""
    return timesteps - config.num_train_timesteps // len(timesteps)


@typechecked
def ddim_table(config: ScheduleConfig, timesteps: Int[np.ndarray, "n"], eta: float) -> DdimTable:
    """Per-step float32 coefficients; `eta` scales the fresh noise: 0 none, 1 as much as DDPM."""
    alpha_bars = alphas_cumprod(config).astype(np.float64)
    final = 1.0 if config.set_alpha_to_one else alpha_bars[0]
    target = previous_timesteps(config, timesteps)
    now = alpha_bars[timesteps]
    after = np.where(target >= 0, alpha_bars[np.maximum(target, 0)], final)
    variance = eta**2 * (1 - after) / (1 - now) * (1 - now / after)
    remaining = np.maximum(1 - after - variance, 0)
    rows = (
        *conversion(config.prediction, now),
        np.sqrt(after),
        np.sqrt(remaining),
        np.sqrt(variance),
    )
    return DdimTable(*(np.asarray(row, np.float32) for row in rows))


def ddim_init(x: Float[Array, "b ..."]) -> tuple[()]:
    """DDIM remembers nothing."""
    return ()


def ddim_step(
    table: DdimTable,
    i: Int[Array, ""] | int,
    x: Float[Array, "b ..."],
    model_output: Float[Array, "b ..."],
    state: tuple[()],
    noise: Float[Array, "b ..."] | None,
) -> tuple[Float[Array, "b ..."], tuple[()]]:
    """One step in float32; `noise` is standard normal, None when eta is 0."""
    c = jax.tree.map(lambda row: jnp.asarray(row)[i], table)
    x, out = x.astype(jnp.float32), model_output.astype(jnp.float32)
    x0, eps = c.x0_x * x + c.x0_out * out, c.eps_x * x + c.eps_out * out
    x = c.next_x0 * x0 + c.next_eps * eps
    return (x if noise is None else x + c.next_noise * noise.astype(jnp.float32)), state
