"""Drawn clips: any frame alone is the same as in passing, poses lie on the figure."""

import numpy as np
import pytest

from realisdance_jax.data.synthetic_clips import SyntheticClip

SIZE = (96, 72)


def mask(picture: np.ndarray) -> np.ndarray:
    """Where something is drawn."""
    return np.any(picture != picture[0, 0], axis=-1)


def test_frames_are_random_access():
    clip = SyntheticClip(3, 20, SIZE)
    every = list(clip.film(range(20)))
    np.testing.assert_array_equal(next(clip.film([13])), every[13])
    assert len({frame.tobytes() for frame in every}) == 20
    for name in ("dwpose", "hamer", "smpl"):
        pictures = list(clip.condition(name, range(20), {}))
        np.testing.assert_array_equal(next(clip.condition(name, [13], {})), pictures[13])
        assert pictures[0].shape == (*SIZE, 3)
        assert all(mask(picture).any() for picture in pictures)


def test_clips_wear_and_do_different_things():
    looks, moves = set(), set()
    for number in range(30):
        clip = SyntheticClip(number, 20, SIZE)
        looks.add(next(clip.film([0])).tobytes())
        moves.add(clip.points(0)[0].tobytes())
    assert len(looks) == len(moves) == 30


@pytest.mark.parametrize("number", range(5))
def test_poses_are_in_register_with_the_figure(number):
    clip = SyntheticClip(number, 20, SIZE)
    for index in (0, 7, 15):
        figure = mask(next(clip.film([index])))
        smpl = mask(next(clip.condition("smpl", [index], {})))
        assert (figure & smpl).sum() > 0.98 * max(figure.sum(), smpl.sum())
        joints, hands = clip.points(index)
        columns, rows = (joints[:14] * (SIZE[1], SIZE[0])).round().astype(int).T
        assert figure[rows, columns].all()
        hamer = next(clip.condition("hamer", [index], {}))
        for side, colour in enumerate(((170, 233, 170), (230, 171, 170))):
            x, y = (hands[side].mean(0) * (SIZE[1], SIZE[0])).round().astype(int)
            assert np.abs(hamer[y - 1 : y + 2, x - 1 : x + 2] - np.array(colour)).min() < 30
