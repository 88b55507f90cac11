"""Options of sampling, checked once."""

from dataclasses import dataclass
from typing import Literal, get_args

from realisdance_jax.diffusion.schedule import Spacing, require_choice
from realisdance_jax.diffusion.solvers import SOLVERS
from realisdance_jax.sampling.shortcuts import Shortcuts
from realisdance_jax.sampling.windows import WINDOW_KINDS
from realisdance_jax.utils.errors import UserError

Uncond = Literal["fake", "image"]

SMALLEST_SIDE = 32
MAX_STEPS = 1000
MAX_GUIDANCE = 100.0
MAX_SEED = 2**32 - 1
"""JAX takes 32 bits of a seed; larger ones would repeat the noise of small ones."""
FPS_RANGE = (0.01, 1000.0)


@dataclass(frozen=True)
class SampleConfig:
    """How to animate; the defaults are the release's.

    size: height and width in pixels, multiples of 8. stride, max_frames: which driver frames.
    guidance: 1 or less switches it off. guidance_rescale: phi of Lin et al. 2023, 0 is off. eta:
    fresh noise of ddim, 0 to 1.
    guidance_interval, reuse_features, reuse_layers: approximations, see `Shortcuts`.
    uncond: the unconditional branch, None for what the weights were trained for (parity.md: H4).
    windows, window_size, window_overlap, window_stride: how long videos are split (parity.md: H16).
    window_batch: windows per call, rounded up to the number of devices.
    fps: of the output, None for driver / stride. color: give the video the reference's colour
    statistics (parity.md: H7). chunk: frames per call of the pose encoders and the VAE decoder.
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
    uncond: Uncond | None = None
    windows: str = "official"
    window_size: int = 16
    window_overlap: int = 4
    window_stride: int = 1
    window_batch: int = 1
    fps: float | None = None
    color: bool = True
    chunk: int = 4
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    reuse_features: int = 1
    reuse_layers: int = 0

    @property
    def shortcuts(self) -> Shortcuts:
        """The approximations."""
        return Shortcuts(self.guidance_interval, self.reuse_features, self.reuse_layers)

    def __post_init__(self):
        if any(side % 8 or side < SMALLEST_SIDE for side in self.size):
            raise UserError(
                f"size: expected height x width in multiples of 8, at least {SMALLEST_SIDE} each, "
                f"found {'x'.join(map(str, self.size))}"
            )
        for name in ("stride", "max_frames", "window_size", "window_stride", "window_batch"):
            self._require(name, 1)
        self._require("chunk", 1)
        self._require("seed", 0, MAX_SEED)
        self._require("steps", 1, MAX_STEPS)
        self._require("guidance", 0.0, MAX_GUIDANCE)
        self._require("guidance_rescale", 0.0, 1.0)
        self._require("eta", 0.0, 1.0)
        self._require("window_overlap", 0, self.window_size - 1)
        if self.fps is not None:
            self._require("fps", *FPS_RANGE)
        _ = self.shortcuts  # whose values are checked as it is made
        require_choice("solver", self.solver, SOLVERS)
        require_choice("spacing", self.spacing, get_args(Spacing))
        require_choice("windows", self.windows, WINDOW_KINDS)
        if self.uncond is not None:
            require_choice("uncond", self.uncond, get_args(Uncond))
        if self.eta and self.solver != "ddim":
            raise UserError(f"eta: expected 0 for the solver {self.solver}, found {self.eta}")
        if self.windows == "blend" and self.window_stride != 1:
            raise UserError(f"window stride: expected 1 with blend, found {self.window_stride}")

    def _require(self, name: str, low: float, high: float | None = None) -> None:
        """Raise `UserError` unless low <= value <= high; NaN is outside."""
        value = getattr(self, name)
        if not low <= value or (high is not None and not value <= high):
            expected = f"at least {low}" if high is None else f"{low} to {high}"
            raise UserError(f"{name.replace('_', ' ')}: expected {expected}, found {value}")
