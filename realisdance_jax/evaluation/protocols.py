"""What is compared: which clips, which frames of them, and what is wrong with their poses."""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from realisdance_jax.data.clips import Clip
from realisdance_jax.data.config import CONDITIONS
from realisdance_jax.data.corruptions import KINDS, Corruption, hit_blocks
from realisdance_jax.data.dancer_clips import DancerClip, split_seeds
from realisdance_jax.data.layout import read_video_folder, video_root
from realisdance_jax.data.sources import FileSource
from realisdance_jax.data.transforms import crop_resize, dino_size, imagenet_normalise, to_signed
from realisdance_jax.metrics.masks import drawn_masks
from realisdance_jax.sampling.encode import Clip as SampleInputs
from realisdance_jax.shapes import Bool, Float, UInt8
from realisdance_jax.utils.errors import UserError

Protocol = Literal["dancer", "disco", "humanvid", "robust"]
PROTOCOLS: tuple[Protocol, ...] = ("dancer", "disco", "humanvid", "robust")
DRAWN: tuple[Protocol, ...] = ("dancer", "robust")
"""Protocols of the dancer world, where the truth is known."""

SIZES = {"dancer": (128, 96), "robust": (128, 96), "disco": (256, 256), "humanvid": (768, 576)}
STRENGTHS = (0.05, 0.1, 0.25, 0.5)
EVERY = "all"
"""Among kinds of corruption: any of them, as they come."""
TRUE = "true"
"""The case without anything wrong."""

REGIONS = {"person": "smpl", "hands": "hamer"}
"""Of files: where a condition shows something."""

LOSSY_BLACK = 12


@dataclass(frozen=True)
class Scene:
    """One clip under one corruption. number: pairs models. case: its label. regions: of `REGIONS`
    those that its files tell."""

    number: int
    case: str
    source: Clip
    indices: tuple[int, ...]
    corruption: Corruption = dataclasses.field(default_factory=Corruption)
    regions: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Truth:
    """frames: of the film at the size of evaluation. masks: regions by name."""

    frames: UInt8[np.ndarray, "f H W 3"]
    reference: UInt8[np.ndarray, "H W 3"]
    masks: dict[str, Bool[np.ndarray, "f H W"]]


@dataclass(frozen=True)
class EvalConfig:
    """protocol, clips, frames, stride, size: what is sampled. split: of dancers.

    strengths: shares of frames in which conditions are wrong (`robust`). kinds: how, each a set of
    cases: `all`, or one of `KINDS` alone. cases: just these, in place of all of them. seed: of the
    corruptions and of the bootstrap.
    Raises `UserError` on a value out of range.
    """

    protocol: Protocol
    clips: int = 32
    frames: int = 16
    stride: int = 2
    size: tuple[int, int] = (128, 96)
    split: str = "test"
    strengths: tuple[float, ...] = STRENGTHS
    kinds: tuple[str, ...] = (EVERY,)
    cases: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self):
        for name, least in (("clips", 1), ("frames", 3), ("stride", 1), ("seed", 0)):
            if getattr(self, name) < least:
                found = getattr(self, name)
                raise UserError(f"{name}: expected at least {least}, found {found}")
        if any(side % 8 or side < 32 for side in self.size):
            found = "x".join(map(str, self.size))
            raise UserError(f"size: expected height x width in multiples of 8, found {found}")
        if not self.strengths or not all(0 < share <= 1 for share in self.strengths):
            raise UserError(f"strengths: expected shares above 0 to 1, found {self.strengths}")
        known = (EVERY, *KINDS)
        if not self.kinds or not set(self.kinds) <= set(known):
            found = ", ".join(self.kinds)
            raise UserError(f"kinds: expected some of {', '.join(known)}, found {found}")
        if self.cases and self.protocol != "robust":
            found = ", ".join(self.cases)
            raise UserError(f"cases: expected none in the protocol {self.protocol}, found {found}")
        shares = tuple(f"{share:g}" for share in self.strengths)
        for name, values in (("cases", self.cases), ("kinds", self.kinds), ("strengths", shares)):
            if len(set(values)) < len(values):
                raise UserError(f"{name}: expected each once, found {', '.join(values)}")
        for case in self.cases:
            corruption_of(case, self.seed)
        split_seeds(self.split, 0)


def dancer_scenes(config: EvalConfig, conditions: Sequence[str]) -> list[Scene]:
    """Held-out people in held-out dances; `robust` adds each condition at each strength.

    The reference is the first frame; the frames that follow it are compared. A dance belongs to its
    number and its length: other `frames` or `stride` are other dances.
    Raises `UserError` for a case of `config.cases` that is wrong in none of `conditions`.
    """
    indices = tuple(range(config.stride, (config.frames + 1) * config.stride, config.stride))
    cases = config.cases or _all_cases(config)
    corruptions = {case: corruption_of(case, config.seed) for case in cases}
    seen = [case for case in cases if case == TRUE or case.split(" ")[0] in conditions]
    if config.cases and (unseen := [case for case in cases if case not in seen]):
        known = ", ".join(conditions)
        raise UserError(f"cases: expected conditions of the models, {known}, found {unseen[0]!r}")
    scenes = []
    for number in range(config.clips):
        who, dance = split_seeds(config.split, number)
        for case in seen:
            wrong = corruptions[case]
            clip = DancerClip(who, dance, indices[-1] + 1, config.size, wrong)
            scenes.append(Scene(number, case, clip, indices, wrong))
    return scenes


def _all_cases(config: EvalConfig) -> list[str]:
    if config.protocol != "robust":
        return [TRUE]
    wrong = itertools.product(CONDITIONS, config.kinds, config.strengths)
    label = {kind: "" if kind == EVERY else f"{kind} " for kind in config.kinds}
    return [TRUE, *(f"{name} {label[kind]}{share:g}" for name, kind, share in wrong)]


def corruption_of(case: str, seed: int) -> Corruption:
    """What is wrong in `true`, `CONDITION STRENGTH` or, in one way, `CONDITION KIND STRENGTH`."""
    if case == TRUE:
        return Corruption()
    try:
        name, *kind, share = case.split(" ")
        strength = float(share)
    except ValueError:
        name, kind, strength = "", [], 0.0
    known = name in CONDITIONS and len(kind) < 2 and set(kind) <= set(KINDS)
    if not known or not 0 < strength <= 1:
        raise UserError(
            f"cases: expected {TRUE}, or CONDITION STRENGTH or CONDITION KIND STRENGTH of "
            f"{', '.join(CONDITIONS)}; {', '.join(KINDS)}; above 0 to 1, found {case!r}"
        )
    if f"{strength:g}" != share:
        raise UserError(f"cases: expected the strength {strength:g} in {case!r}, found {share}")
    return dataclasses.replace(
        Corruption(seed=seed, kinds=tuple(kind) or KINDS), **{name: strength}
    )


def open_folder(data: str, conditions: Sequence[str]) -> FileSource:
    """Clips of an official folder with `conditions`, and those that regions need where it has them.

    So every model is measured in the same regions, whatever it takes.
    Raises `UserError` for anything else, and where one of `conditions` is missing.
    """
    root = video_root(data, "test")
    if root is None:
        raise UserError(f"{data}: expected a folder with video/ or test/video/, found none")
    there = {name for name in REGIONS.values() if (root / name).is_dir()} | {*conditions}
    return FileSource(tuple(read_video_folder(root, [c for c in CONDITIONS if c in there])))


def file_scenes(config: EvalConfig, data: str, conditions: Sequence[str]) -> list[Scene]:
    """Clips of an official folder, from their first frame on, which is also the reference.

    Raises `UserError` as `open_folder`, and for a clip that is too short.
    """
    source = open_folder(data, conditions)
    indices = tuple(range(0, config.frames * config.stride, config.stride))
    scenes = []
    for number in range(min(config.clips, len(source))):
        clip = source.clip(number)
        if clip.length() <= indices[-1]:
            raise UserError(
                f"{data}: {clip.name}: expected at least {indices[-1] + 1} frames, "
                f"found {clip.length()}"
            )
        regions = tuple(name for name, shown in REGIONS.items() if shown in clip.streams)
        scenes.append(Scene(number, TRUE, clip, indices, regions=regions))
    return scenes


def _pictures(scene: Scene, name: str, size: tuple[int, int], sizes: dict) -> list[np.ndarray]:
    drawn = scene.source.condition(name, scene.indices, sizes)
    return [crop_resize(picture, size) for picture in drawn]


def scene_truth(scene: Scene, size: tuple[int, int]) -> Truth:
    """What the video should be, and the regions to measure in.

    Regions are exact for dancers; of files, the character as SMPL-CS shows it and hands as HaMeR.
    """
    film = scene.source.film([0, *scene.indices] if scene.indices[0] else list(scene.indices))
    bytes_ = [np.rint(crop_resize(frame, size) * 255).astype(np.uint8) for frame in film]
    frames = np.stack(bytes_[1:] if scene.indices[0] else bytes_)
    if isinstance(scene.source, DancerClip):
        found = list(scene.source.masks(scene.indices))
        masks = {name: np.stack([mask[name] for mask in found]) for name in found[0]}
        return Truth(frames, bytes_[0], masks)
    masks, whole = {}, dict.fromkeys(scene.indices, size)
    for region in scene.regions:
        drawn = np.stack(_pictures(scene, REGIONS[region], size, whole))
        masks[region] = drawn_masks((drawn * 255).astype(np.uint8), LOSSY_BLACK)
    return Truth(frames, bytes_[0], masks)


def scene_inputs(scene: Scene, size: tuple[int, int], conditions: Sequence[str]) -> SampleInputs:
    """What a model gets to see."""
    every = [0, *scene.indices] if scene.indices[0] else list(scene.indices)
    first, sizes = None, {}
    for index, frame in zip(every, scene.source.film(every), strict=True):
        sizes[index] = frame.shape[:2]
        first = frame if first is None else first
    assert first is not None
    streams = [_pictures(scene, name, size, sizes) for name in conditions]
    stacked: list[Float[np.ndarray, "H W c"]] = [
        np.concatenate(pictures, axis=-1) for pictures in zip(*streams, strict=True)
    ]
    return SampleInputs(
        to_signed(crop_resize(first, size)),
        imagenet_normalise(crop_resize(first, dino_size(size))),
        stacked,
    )


def hit_frames(scene: Scene, condition: str) -> Bool[np.ndarray, " f"]:
    """Which of the scene's frames have a wrong `condition`."""
    hit = np.zeros(len(scene.indices), bool)
    clip = scene.source
    if isinstance(clip, DancerClip):
        seed = clip.corruption_seed(CONDITIONS.index(condition))
        blocks = hit_blocks(clip.frames, getattr(clip.corruption, condition), seed)
        wrong = {int(frame) for block in blocks for frame in block.frames}
        hit[:] = [index in wrong for index in scene.indices]
    return hit
