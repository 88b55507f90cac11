"""Nineteen named vertices of SMPL-X and their place on the colour scale of SMPL-CS."""

import numpy as np

from realisdance_jax.shapes import Int, typechecked

SMPLX_VERTICES = 10475

# Public vertex numbers of the smplx package; scale 0 to 250 of the official colours.
# fmt: off
LANDMARKS = {
    "nose": (9120, 205), "right_ear": (616, 191), "left_ear": (6, 187),
    "right_thumb": (8079, 239), "right_index": (7669, 249), "right_middle": (7794, 231),
    "right_ring": (7905, 226), "right_pinky": (8022, 226),
    "left_thumb": (5361, 113), "left_index": (4933, 117), "left_middle": (5058, 127),
    "left_ring": (5169, 130), "left_pinky": (5286, 128),
    "left_big_toe": (5770, 10), "left_small_toe": (5780, 12), "left_heel": (8846, 9),
    "right_big_toe": (8463, 72), "right_small_toe": (8474, 64), "right_heel": (8635, 45),
}
# fmt: on
SCALE = np.array([scale for _, scale in LANDMARKS.values()], np.float64)


@typechecked
def landmark_vertices(vertices: int = SMPLX_VERTICES) -> Int[np.ndarray, "19"]:
    """Vertex numbers, in the order of `LANDMARKS`.

    vertices: 10475 for SMPL-X; synthetic bodies of another size have them spread proportionally.
    """
    numbers = np.array([number for number, _ in LANDMARKS.values()], np.int64)
    return numbers * vertices // SMPLX_VERTICES
