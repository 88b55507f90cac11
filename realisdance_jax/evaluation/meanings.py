"""Unit and better direction of a metric, for the page."""

from typing import NamedTuple


class Meaning(NamedTuple):
    """unit: or range. better: `higher`, `lower`, or what is right."""

    unit: str
    better: str


_GRADES = Meaning("grades of 255", "lower")
_DISTANCE = Meaning("distance", "lower")
_COSINE = Meaning("cosine", "higher")

KINDS = {
    "psnr_uint8_overflow": Meaning("dB as in old tables", "higher"),
    "psnr": Meaning("dB", "higher"),
    "ssim": Meaning("at most 1", "higher"),
    "l1": _GRADES,
    "disco_l1": Meaning("grades per pixel", "lower"),
    "jitter": _GRADES,
    "motion": Meaning("ratio to the truth", "1"),
    "lpips": _DISTANCE,
    "fid": _DISTANCE,
    "fvd": _DISTANCE,
    "gesture_right": Meaning("share of hands", "higher"),
    "identity": _COSINE,
    "wrong": Meaning("share of frames", "as the case says"),
    "gate": Meaning("weight 0 to 1", "lower on wrong frames"),
}
"""By name, or the first words of it; the first that fits."""


def meaning(metric: str) -> Meaning:
    """Of a metric of `evaluate`, `psnr_hands` for instance. Raises `KeyError` for others."""
    for name, found in KINDS.items():
        if metric == name or metric.startswith(f"{name}_"):
            return found
    raise KeyError(metric)


def explained(metric: str) -> str:
    """`psnr_hands (dB, better: higher)`."""
    found = meaning(metric)
    return f"{metric} ({found.unit}; better: {found.better})"
