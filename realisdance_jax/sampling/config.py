"""Options of sampling, checked once."""

import math
from dataclasses import dataclass
from typing import Literal

from realisdance_jax.diffusion.schedule import Spacing
from realisdance_jax.diffusion.solvers import SOLVERS
from realisdance_jax.sampling.windows import WINDOW_KINDS
from realisdance_jax.utils.errors import UserError

SMALLEST_SIDE = 32
MAX_GUIDANCE = 100.0
MAX_STEPS = 1000


@dataclass(frozen=True)
class SampleConfig:
    """How to animate; the defaults are the release's (spec section 5).

    size: height and width in pixels, multiples of 8. stride, max_frames: which driver frames.
    guidance: 1 switches it off. guidance_rescale: phi of Lin et al. 2023, 0 is off.
    uncond: the unconditional branch, None for what the weights were trained for (parity.md: H4).
    windows, window_size, window_overlap, window_stride: how long videos are split (parity.md: H16).
    window_batch: windows per call, rounded up to the number of devices. fps: None is driver / stride.
    color: give the video the reference's colour statistics (parity.md: H7). chunk: frames per call
    of the pose encoders and of the VAE decoder.
    Raises `UserError` on a value out of range.
    """

    size: tuple[int, int] = (768, 576)
    stride: int = 4
    max_frames: int = 80
    steps: int = 50
    guidance: float = 2.0
    guidance_rescale: float = 0.0
    seed: int = 0
    solver: str = "ddim"
    spacing: Spacing = "linspace"
    eta: float = 0.0
    uncond: Literal["fake", "image"] | None = None
    windows: str = "official"
    window_size: int = 16
    window_overlap: int = 4
    window_stride: int = 1
    window_batch: int = 1
    fps: float | None = None
    color: bool = True
    chunk: int = 4

    def __post_init__(self):
        for name in ("stride", "max_frames", "window_size", "window_batch", "chunk"):
            self._at_least(name, 1)
        self._at_least("seed", 0)
        if any(side % 8 or side < SMALLEST_SIDE for side in self.size):
            found = "x".join(map(str, self.size))
            raise UserError(
                f"size: expected height x width in multiples of 8, at least {SMALLEST_SIDE} each, "
                f"found {found}"
            )
        self._between("steps", 1, MAX_STEPS)
        self._between("guidance", 1.0, MAX_GUIDANCE)
        self._between("guidance_rescale", 0.0, 1.0)
        self._between("eta", 0.0, 1.0)
        if self.fps is not None and not (math.isfinite(self.fps) and 0 < self.fps <= 1000):
            raise UserError(f"fps: expected a rate above 0, found {self.fps}")
        for name, known in (("solver", SOLVERS), ("windows", WINDOW_KINDS)):
            if getattr(self, name) not in known:
                found = getattr(self, name)
                raise UserError(f"{name}: expected one of {', '.join(known)}, found {found!r}")

    def _at_least(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if value < least:
            raise UserError(f"{name}: expected at least {least}, found {value}")

    def _between(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if not low <= value <= high:
            raise UserError(f"{name}: expected {low} to {high}, found {value}")
