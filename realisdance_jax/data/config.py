"""What a data pipeline delivers, checked once."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from realisdance_jax.utils.errors import UserError

CONDITIONS = ("dwpose", "hamer", "smpl")
"""Order of the pose pictures along the channel axis, the model's (parity.md: H26)."""

SYNTHETIC = "synthetic"
DANCER = "dancer"
DRAWN = (SYNTHETIC, DANCER)
"""Sources without files."""

Reference = Literal["random", "first"]


@dataclass(frozen=True)
class DataConfig:
    """A mixture of sources and how samples are taken from them; the defaults are the release's.

    sources: each `synthetic`, `dancer`, a folder in the official layout, an image list, or what
    `prepare dataset` wrote. weights: their shares of the samples; by number of clips if empty.
    split: sub-folder of an official folder that does not hold `video/` itself; of dancers `train`,
    `test`, `test_identity` or `test_motion`.
    hamer_root, smpl_root: where an image list's renderings lie (HaMeR: `/hamer_img/` if empty).
    batch: examples of all hosts together. frames: per example; 1 takes pairs of different pictures,
    as the first stage does. stride: between frames. size: height and width in pixels.
    conditions: which pose pictures, in channel order.
    reference, start, fixed_gap: see `picking.py`; `start=None` draws the first frame.
    crop_scale, crop_ratio, flip: see `augment.py`; the default is the official centred crop.
    shuffle: new order each epoch, else the listed order.
    max_unreadable: share of the clips that may be unreadable before the run stops.
    synthetic_clips, synthetic_frames: size of the drawn sources, `synthetic` and `dancer`.
    corruption: share of frames in which dancers' DWPose, HaMeR and SMPL-CS are wrong, see
    `corruptions.py`; corruption_seed: which frames, and how.
    Raises `UserError` on a value out of range.
    """

    sources: tuple[str, ...] = (SYNTHETIC,)
    weights: tuple[float, ...] = ()
    split: str = "train"
    hamer_root: str = ""
    smpl_root: str = ""
    batch: int = 8
    frames: int = 16
    stride: int = 4
    size: tuple[int, int] = (768, 576)
    conditions: tuple[str, ...] = CONDITIONS
    reference: Reference = "random"
    start: int | None = None
    fixed_gap: bool = False
    crop_scale: tuple[float, float] = (1.0, 1.0)
    crop_ratio: tuple[float, float] | None = None
    flip: float = 0.0
    shuffle: bool = True
    max_unreadable: float = 0.05
    synthetic_clips: int = 64
    synthetic_frames: int = 64
    corruption: tuple[float, float, float] = (0.0, 0.0, 0.0)
    corruption_seed: int = 0

    def __post_init__(self):
        self._check_sources()
        for name in ("batch", "frames", "stride", "synthetic_clips"):
            self._require(name, 1)
        self._require("synthetic_frames", 2)
        self._require("corruption_seed", 0)
        self._require("flip", 0, 1)
        self._require("max_unreadable", 0, 1)
        if self.start is not None:
            self._require("start", 0)
        if len(self.size) != 2 or any(side % 8 or side < 8 for side in self.size):
            found = "x".join(map(str, self.size))
            raise UserError(f"size: expected height x width in multiples of 8, found {found}")
        known = tuple(name for name in CONDITIONS if name in self.conditions)
        if not known or self.conditions != known:
            raise UserError(
                f"conditions: expected some of {', '.join(CONDITIONS)} in this order, "
                f"found {self.conditions!r}"
            )
        if self.reference not in get_args(Reference):
            choices = ", ".join(get_args(Reference))
            raise UserError(f"reference: expected one of {choices}, found {self.reference!r}")
        if len(self.corruption) != 3 or not all(0 <= share <= 1 for share in self.corruption):
            raise UserError(f"corruption: expected three shares 0 to 1, found {self.corruption!r}")
        self._check_range("crop_scale", self.crop_scale, 1.0)
        if self.crop_ratio is not None:
            self._check_range("crop_ratio", self.crop_ratio, math.inf)

    def _check_sources(self) -> None:
        if isinstance(self.sources, str) or not self.sources:
            raise UserError(f"sources: expected at least one in a tuple, found {self.sources!r}")
        if self.weights and len(self.weights) != len(self.sources):
            count = len(self.sources)
            raise UserError(f"weights: expected {count} of them, found {len(self.weights)}")
        if not all(0 < weight < math.inf for weight in self.weights):
            raise UserError(f"weights: expected positive numbers, found {self.weights!r}")

    def _require(self, name: str, least: float, most: float = math.inf) -> None:
        value = getattr(self, name)
        if not least <= value <= most:
            limits = f"at least {least}" if most == math.inf else f"{least} to {most}"
            raise UserError(f"{name}: expected {limits}, found {value!r}")

    def _check_range(self, name: str, values: tuple[float, ...], most: float) -> None:
        if len(values) != 2 or not 0 < values[0] <= values[1] <= most or values[1] == math.inf:
            raise UserError(f"{name}: expected two rising positive numbers, found {values!r}")

    @property
    def crops_at_random(self) -> bool:
        """Whether crops differ from the official centred one."""
        return tuple(self.crop_scale) != (1.0, 1.0) or self.crop_ratio is not None
