"""Do generated hands show the right gesture? Each is held against five renders of its frame."""

from collections.abc import Sequence

import numpy as np

from realisdance_jax.data.dancer_clips import DancerClip
from realisdance_jax.data.dancer_hands import HandChoice, hand_choices
from realisdance_jax.evaluation.protocols import Scene
from realisdance_jax.metrics.states import Mean
from realisdance_jax.shapes import UInt8, typechecked

NAME = "gesture_right"


def scene_hands(scene: Scene) -> tuple[HandChoice, ...] | None:
    """Hands of a scene of dancers with nothing wrong; None for others, which are not measured."""
    if scene.case != "true" or not isinstance(scene.source, DancerClip):
        return None
    return tuple(hand_choices(scene.source, scene.indices))


@typechecked
def gesture_metrics(
    generated: UInt8[np.ndarray, "f H W 3"], hands: Sequence[HandChoice]
) -> dict[str, float]:
    """Share of the hands that are nearest (L2 of the crop) to the true frame, NaN without any.

    With four other gestures a picture that tells nothing gets about 0.2.
    """
    right = [_nearest(hand.crop(generated[hand.frame]), hand.crops) == 0 for hand in hands]
    return {NAME: Mean.of(np.array(right, np.float64)).value}


def _nearest(crop: np.ndarray, candidates: np.ndarray) -> int:
    difference = candidates.astype(np.float64) - crop
    return int(np.square(difference).sum(axis=(1, 2, 3)).argmin())
