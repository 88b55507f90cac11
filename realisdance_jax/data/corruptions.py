"""What estimators get wrong, done to true poses on purpose, in blocks of frames.

Pure functions of a clip, a strength and a seed. The strength is the share of frames that are hit, 0
to 1: 0 returns the clip itself, 1 hits every frame. With one seed the frames hit at a lower
strength are among those of a higher one, and the same happens to them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple, TypeVar

import numpy as np

from realisdance_jax.poses.clips import BodyClip, HandClip, KeypointClip
from realisdance_jax.shapes import Int, typechecked
from realisdance_jax.utils.errors import UserError

KINDS = ("blank", "lost", "other", "swapped", "jitter")
"""Ways to fail: nothing is found, a part is not, somebody else is, left is taken for right, joints
tremble. Every block of frames has one of them."""

SHORTEST, LONGEST = 4, 12
"""Frames of a block."""

Arrays = dict[str, np.ndarray]
C = TypeVar("C", KeypointClip, BodyClip, HandClip)


class Block(NamedTuple):
    """frames: consecutive ones to be hit. kind: 0 to 1, which failure. seed: of its details."""

    frames: Int[np.ndarray, " k"]
    kind: float
    seed: int

    def generator(self) -> np.random.Generator:
        """Numbers that do not depend on the strength."""
        return np.random.default_rng([5, self.seed])


@dataclass(frozen=True)
class Corruption:
    """Share of frames hit in each condition; seed of the blocks, independent per condition.

    kinds: those of `KINDS` that occur, in that order. Which frames are hit does not depend on them.
    Raises `UserError` for a share beyond 0 to 1, and for other kinds or none.
    """

    dwpose: float = 0.0
    hamer: float = 0.0
    smpl: float = 0.0
    seed: int = 0
    kinds: tuple[str, ...] = field(default=KINDS, repr=False)

    def __post_init__(self) -> None:
        if not self.kinds or self.kinds != tuple(kind for kind in KINDS if kind in self.kinds):
            found = ", ".join(self.kinds) or "none"
            raise UserError(f"kinds: expected some of {', '.join(KINDS)}, found {found}")
        for name in ("dwpose", "hamer", "smpl"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise UserError(f"corruption of {name}: expected 0 to 1, found {value!r}")


@typechecked
def hit_blocks(frames: int, strength: float, seed: int) -> list[Block]:
    """Blocks that hit the nearest whole number of `strength * frames` frames.

    Blocks are 4 to 12 frames long; of the last one only as many are hit as are still needed.
    Raises `UserError` for a strength beyond 0 to 1.
    """
    if not 0 <= strength <= 1:
        raise UserError(f"strength of a corruption: expected 0 to 1, found {strength!r}")
    rng = np.random.default_rng([4, seed])
    lengths = rng.integers(SHORTEST, LONGEST + 1, frames // SHORTEST + 1)
    ends = np.minimum(np.cumsum(lengths), frames)
    pieces = [piece for piece in np.split(np.arange(frames), ends) if len(piece)]
    blocks = [Block(piece, rng.random(), int(rng.integers(2**31))) for piece in pieces]
    left, hit = round(strength * frames), []
    for number in rng.permutation(len(blocks)).tolist():
        block = blocks[number]
        if left > 0:
            hit.append(block._replace(frames=block.frames[:left]))
            left -= len(hit[-1].frames)
    return hit


def corrupt_keypoints(
    clip: KeypointClip, strength: float, seed: int, kinds: tuple[str, ...] = KINDS
) -> KeypointClip:
    """Blank frames, lost limbs or hands, another person, left for right, trembling joints."""
    ways = (_blank_points, _lose_points, _wrong_points, _swap_points, _shake_points)
    return _hit(clip, strength, seed, ways, kinds)


def corrupt_bodies(
    clip: BodyClip, strength: float, seed: int, kinds: tuple[str, ...] = KINDS
) -> BodyClip:
    """Blank frames, arms or hands in the rest pose, another person, left for right, trembling."""
    ways = (_blank_body, _lose_limbs, _wrong_body, _swap_body, _shake_body)
    return _hit(clip, strength, seed, ways, kinds)


def corrupt_hands(
    clip: HandClip, strength: float, seed: int, kinds: tuple[str, ...] = KINDS
) -> HandClip:
    """Blank frames, one hand lost, another time's hands elsewhere, left for right, trembling."""
    ways = (_blank_hands, _lose_hand, _wrong_hands, _swap_hands, _shake_hands)
    return _hit(clip, strength, seed, ways, kinds)


def _hit(
    clip: C, strength: float, seed: int, ways: tuple[Callable, ...], kinds: tuple[str, ...]
) -> C:
    """ways: what each of `KINDS` does, of which only `kinds` occur."""
    chosen = [way for way, kind in zip(ways, KINDS, strict=True) if kind in kinds]
    blocks = hit_blocks(clip.frames, strength, seed)
    if not blocks:
        return clip
    named = {entry.name: getattr(clip, entry.name) for entry in fields(clip)}
    true: Arrays = {name: v for name, v in named.items() if isinstance(v, np.ndarray)}
    wrong = {name: array.copy() for name, array in true.items()}
    for block in blocks:
        way = chosen[min(int(block.kind * len(chosen)), len(chosen) - 1)]
        way(wrong, true, block.frames, block.generator())
    return replace(clip, **wrong)


def _other_time(frames: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """As many consecutive frames from about half a clip away, round its end."""
    return (frames + int((0.3 + 0.4 * rng.random()) * count) + 1) % count


def _trembling(rng: np.random.Generator, frames: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(k ...) normal numbers for `frames` of a block.

    As many are drawn for a block that the strength cuts short, so that what is drawn next and the
    frames it has in common with the whole block do not depend on the strength.
    """
    return rng.standard_normal((max(LONGEST, len(frames)), *shape))[: len(frames)]


# Keypoints ------------------------------------------------------------------------------------

# Limbs as body joints and hands that go with them.
_LIMBS = (
    ((3, 4), (1,)),
    ((6, 7), (0,)),
    ((2, 3, 4), (1,)),
    ((5, 6, 7), (0,)),
    ((4,), (1,)),
    ((7,), (0,)),
)
_TWIN_POINTS = [0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16]


def _blank_points(wrong: Arrays, true: Arrays, at: np.ndarray, rng: np.random.Generator) -> None:
    for name in ("body_ok", "hands_ok", "faces_ok"):
        wrong[name][at] = False


def _lose_points(wrong: Arrays, true: Arrays, at: np.ndarray, rng: np.random.Generator) -> None:
    for limb in rng.choice(len(_LIMBS), size=int(rng.integers(1, 4)), replace=False):
        joints, hands = _LIMBS[limb]
        wrong["body_ok"][np.ix_(at, np.arange(true["body"].shape[1]), joints)] = False
        wrong["hands_ok"][np.ix_(at, np.arange(true["body"].shape[1]), hands)] = False


def _wrong_points(wrong: Arrays, true: Arrays, at: np.ndarray, rng: np.random.Generator) -> None:
    """Somebody smaller, elsewhere in the picture, who does something else."""
    source = _other_time(at, len(true["body"]), rng)
    scale, shift = rng.uniform(0.45, 0.75), rng.uniform(-0.25, 0.25, 2)
    for name in ("body", "hands", "faces"):
        wrong[name][at] = (true[name][source] - 0.5) * scale + 0.5 + shift
        wrong[f"{name}_ok"][at] = true[f"{name}_ok"][source]


def _swap_points(wrong: Arrays, true: Arrays, at: np.ndarray, rng: np.random.Generator) -> None:
    for name in ("body", "body_ok"):
        wrong[name][at] = true[name][at][:, :, _TWIN_POINTS]
    for name in ("hands", "hands_ok"):
        wrong[name][at] = true[name][at][:, :, ::-1]


def _shake_points(wrong: Arrays, true: Arrays, at: np.ndarray, rng: np.random.Generator) -> None:
    size = rng.uniform(0.015, 0.04)
    for name, share in (("body", 1.0), ("hands", 0.6), ("faces", 0.3)):
        noise = _trembling(rng, at, true[name].shape[1:])
        wrong[name][at] = true[name][at] + size * share * noise * true[f"{name}_ok"][at][..., None]


# Bodies ---------------------------------------------------------------------------------------

_TWIN_JOINTS = [1, 0, 2, 4, 3, 5, 7, 6, 8, 10, 9, 11, 13, 12, 14, 16, 15, 18, 17, 20, 19]
"""The joint on the other side, of the 21 of a body pose."""

_SIDES = (("left_hand_pose", (15, 17, 19)), ("right_hand_pose", (16, 18, 20)))
_ACROSS = np.array([1.0, -1.0, -1.0])


def _blank_body(wrong: Arrays, true: Arrays, at: np.ndarray, rng: np.random.Generator) -> None:
    for name, array in wrong.items():
        if name not in ("focal", "princpt"):
            array[at] = 0


def _lose_limbs(wrong: Arrays, true: Arrays, at: np.ndarray, rng: np.random.Generator) -> None:
    """Where nothing is seen the model falls back on its mean: straight arms, flat hands."""
    sides = ((0,), (1,), (0, 1))[rng.integers(3)]
    whole_arm = rng.random() < 0.6
    for side in sides:
        hand, joints = _SIDES[side]
        wrong[hand][at] = 0
        if whole_arm:
            wrong["body_pose"][at[:, None], joints] = 0


def _wrong_body(wrong: Arrays, true: Arrays, at: np.ndarray, rng: np.random.Generator) -> None:
    """Somebody further away, elsewhere, who does something else."""
    source = _other_time(at, len(true["present"]), rng)
    for name in true:
        wrong[name][at] = true[name][source]
    wrong["transl"][at, 2] += rng.uniform(0.8, 2.5)
    wrong["transl"][at, 0] += rng.uniform(0.15, 0.5) * rng.choice([-1, 1])


def _swap_body(wrong: Arrays, true: Arrays, at: np.ndarray, rng: np.random.Generator) -> None:
    wrong["body_pose"][at] = true["body_pose"][at][:, _TWIN_JOINTS] * _ACROSS
    wrong["left_hand_pose"][at] = true["right_hand_pose"][at] * _ACROSS
    wrong["right_hand_pose"][at] = true["left_hand_pose"][at] * _ACROSS


def _shake_body(wrong: Arrays, true: Arrays, at: np.ndarray, rng: np.random.Generator) -> None:
    size = rng.uniform(0.08, 0.25)
    for name, share in (("body_pose", 1.0), ("left_hand_pose", 1.0), ("right_hand_pose", 1.0)):
        noise = _trembling(rng, at, true[name].shape[1:])
        wrong[name][at] = true[name][at] + size * share * noise
    wrong["transl"][at] = true["transl"][at] + 0.15 * size * _trembling(rng, at, (3,))


# Hands ----------------------------------------------------------------------------------------


def _blank_hands(wrong: Arrays, true: Arrays, at: np.ndarray, rng: np.random.Generator) -> None:
    for array in wrong.values():
        array[at] = 0


def _lose_hand(wrong: Arrays, true: Arrays, at: np.ndarray, rng: np.random.Generator) -> None:
    """One of those there; of a single one, that one."""
    first = int(rng.integers(2))
    for frame in at.tolist():
        there = np.flatnonzero(true["present"][frame])
        if len(there):
            for array in wrong.values():
                array[frame, there[first % len(there)]] = 0


def _wrong_hands(wrong: Arrays, true: Arrays, at: np.ndarray, rng: np.random.Generator) -> None:
    source = _other_time(at, len(true["present"]), rng)
    for name in true:
        wrong[name][at] = true[name][source]
    shift = rng.uniform(-0.2, 0.2, (true["present"].shape[1], 3)) * [1, 1, 0]
    wrong["translation"][at] += shift * wrong["present"][at][..., None]


def _swap_hands(wrong: Arrays, true: Arrays, at: np.ndarray, rng: np.random.Generator) -> None:
    """A hand taken for one of the other side is the mirror image in its place."""
    there = true["present"][at]
    wrong["right"][at] = ~true["right"][at] & there
    wrong["vertices"][at] = true["vertices"][at] * np.array([-1, 1, 1])


def _shake_hands(wrong: Arrays, true: Arrays, at: np.ndarray, rng: np.random.Generator) -> None:
    """Hands tremble and turn as a whole; a mesh has no joints."""
    size = rng.uniform(0.5, 1.2)
    hands = true["present"].shape[1]
    turn = 0.3 * size * _trembling(rng, at, (hands,))
    cosine, sine = np.cos(turn)[..., None], np.sin(turn)[..., None]
    x, y, z = np.moveaxis(true["vertices"][at], -1, 0)
    turned = (cosine * x - sine * y, sine * x + cosine * y, z)
    wrong["vertices"][at] = np.stack(turned, axis=-1)
    noise = _trembling(rng, at, (hands, 3)) * true["present"][at][..., None]
    wrong["translation"][at] = true["translation"][at] + 0.03 * size * noise * [1, 1, 0.3]
