"""Bundles of approximations, as `sample --speed` names them."""

from dataclasses import dataclass
from typing import Any

from realisdance_jax.parallel.devices import is_ampere_or_later
from realisdance_jax.sampling.config import SampleConfig


@dataclass(frozen=True)
class Bundle:
    """Values for `SampleConfig`, and whether to compute in bfloat16 where the device has it."""

    solver: str = "ddim"
    steps: int = 50
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    reuse_features: int = 1
    reuse_layers: int = 0
    bfloat16: bool = True

    def values(self) -> dict[str, Any]:
        """By the names that `SampleConfig` has for them."""
        return {
            "solver": self.solver,
            "steps": self.steps,
            "guidance_interval": self.guidance_interval,
            "reuse_features": self.reuse_features,
            "reuse_layers": self.reuse_layers,
        }

    def dtype(self, device: Any) -> str:
        """What to compute in on `device`."""
        return "bfloat16" if self.bfloat16 and has_bfloat16(device) else "float32"


SPEEDS = {
    "exact": Bundle(bfloat16=False),
    "balanced": Bundle("unipc", 20),
    "fast": Bundle("unipc", 12, (0.2, 1.0)),
}


def has_bfloat16(device: Any) -> bool:
    """Whether `device` multiplies bfloat16 natively: TPUs and NVIDIA GPUs since Ampere."""
    return device.platform == "tpu" or is_ampere_or_later(device)


def describe(config: SampleConfig, dtype: str) -> str:
    """In words, what bundles decide."""
    parts = [config.solver, f"{config.steps} steps"]
    if config.guidance > 1 and config.guidance_interval != (0.0, 1.0):
        parts.append("guidance from {:g} to {:g}".format(*config.guidance_interval))
    if config.reuse_features > 1:
        parts.append(f"the whole network every {config.reuse_features} steps")
    return ", ".join([*parts, dtype])
