"""The forward process x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise, on the host.

Everything here is float32 numpy in the order of operations of the released code, so that the
tables agree with it to the last bits: the solvers amplify any difference near alpha_bar = 0.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from realisdance_jax.shapes import Float, Int, typechecked
from realisdance_jax.utils.errors import UserError

BetaSchedule = Literal["scaled_linear", "linear", "squaredcos_cap_v2"]
Prediction = Literal["v_prediction", "epsilon", "sample"]
Spacing = Literal["linspace", "leading", "trailing"]


@dataclass(frozen=True)
class ScheduleConfig:
    """Noise schedule and what the network predicts; the defaults are the released model's.

    `zero_snr` rescales the betas so that the last step is pure noise (Lin et al. 2023).
    `set_alpha_to_one` is the alpha_bar that DDIM lands on: 1, or else that of timestep 0.
    Raises `UserError` on an unknown name or a value out of range.
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: BetaSchedule = "scaled_linear"
    zero_snr: bool = True
    prediction: Prediction = "v_prediction"
    set_alpha_to_one: bool = False
    steps_offset: int = 1

    def __post_init__(self):
        require_choice("beta_schedule", self.beta_schedule, get_args(BetaSchedule))
        require_choice("prediction", self.prediction, get_args(Prediction))
        if self.num_train_timesteps < 2:
            raise UserError(f"num_train_timesteps: expected >= 2, found {self.num_train_timesteps}")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise UserError(
                "beta_start, beta_end: expected 0 < start <= end < 1, "
                f"found {self.beta_start}, {self.beta_end}"
            )
        if self.steps_offset < 0:
            raise UserError(f"steps_offset: expected >= 0, found {self.steps_offset}")


def require_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise `UserError` unless `value` is one of `choices`."""
    if value not in choices:
        raise UserError(f"{what}: expected one of {', '.join(choices)}; found {value!r}")


def _linspace(start: float, end: float, count: int) -> Float[np.ndarray, "t"]:
    """Float32 linspace, each half counted from its own end and rounded once, as torch does."""
    first, last = np.float32(start), np.float32(end)
    step = np.float64((last - first) / np.float32(count - 1))
    index = np.arange(count)
    below = np.float64(first) + step * index
    above = np.float64(last) - step * (count - 1 - index)
    return np.where(index < count // 2, below, above).astype(np.float32)


def _cosine_betas(count: int) -> Float[np.ndarray, "t"]:
    """Nichol and Dhariwal 2021, eq. 17, betas capped at 0.999."""
    phase = (np.arange(count + 1, dtype=np.float64) / count + 0.008) / 1.008
    alpha_bar = np.cos(phase * math.pi / 2) ** 2
    return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999).astype(np.float32)


def _cumulative_product(alphas: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t"]:
    """Running product held in float64 and stored in float32, as torch does on the CPU."""
    return np.cumprod(alphas.astype(np.float64)).astype(np.float32)


@typechecked
def rescale_zero_terminal_snr(betas: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t"]:
    """Betas with sqrt(alpha_bar) last 0 and first unchanged (Lin et al. 2023, alg. 1)."""
    root = np.sqrt(_cumulative_product(np.float32(1) - betas.astype(np.float32)))
    first, last = root[0], root[-1]
    alpha_bar = ((root - last) * (first / (first - last))) ** 2
    alphas = np.concatenate([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])
    return np.float32(1) - alphas


@typechecked
def betas(config: ScheduleConfig) -> Float[np.ndarray, "t"]:
    """Noise variances of the forward steps, float32; the last is 1 with `zero_snr`."""
    count = config.num_train_timesteps
    if config.beta_schedule == "scaled_linear":
        plain = _linspace(math.sqrt(config.beta_start), math.sqrt(config.beta_end), count) ** 2
    elif config.beta_schedule == "linear":
        plain = _linspace(config.beta_start, config.beta_end, count)
    else:
        plain = _cosine_betas(count)
    return rescale_zero_terminal_snr(plain) if config.zero_snr else plain


@typechecked
def alphas_cumprod(config: ScheduleConfig) -> Float[np.ndarray, "t"]:
    """alpha_bar per timestep, float32, decreasing; exactly 0 at the last one with `zero_snr`."""
    return _cumulative_product(np.float32(1) - betas(config))


@typechecked
def timesteps(
    config: ScheduleConfig, steps: int, spacing: str = "linspace"
) -> Int[np.ndarray, "n"]:
    """The `steps` timesteps of a sampling run, decreasing int32 (parity.md: H6).

    linspace: round half to even between the last timestep and 0 (the release; a single step is 0,
    `steps_offset` plays no part). leading: multiples of t // steps plus `steps_offset`.
    trailing: down from the last timestep in steps of t / steps (Lin et al. 2023, table 2).
    Raises `UserError` on an unknown spacing or when `steps` does not fit the schedule.
    """
    require_choice("spacing", spacing, get_args(Spacing))
    count = config.num_train_timesteps
    if not 1 <= steps <= count:
        raise UserError(f"steps: expected 1..{count}, found {steps}")
    if spacing == "linspace":
        chosen = np.round(np.linspace(0, count - 1, steps))[::-1]
    elif spacing == "leading":
        chosen = np.arange(steps)[::-1] * (count // steps) + config.steps_offset
    else:
        chosen = np.round(count - np.arange(steps) * (count / steps)) - 1
    if chosen.max() >= count:
        raise UserError(
            f"steps: {steps} with spacing leading and steps_offset {config.steps_offset} "
            f"start at timestep {int(chosen.max())}, expected at most {count - 1}"
        )
    return np.ascontiguousarray(chosen, np.int32)
