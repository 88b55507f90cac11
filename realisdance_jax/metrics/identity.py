"""Whether the character stays who it is: cosines between embeddings of frames.

Any encoder of pictures will do, a face network or the model's own image encoder; numbers of two
encoders do not compare.
"""

import numpy as np

from realisdance_jax.shapes import Float, typechecked


@typechecked
def to_reference(
    frames: Float[np.ndarray, "f d"], reference: Float[np.ndarray, " d"]
) -> Float[np.ndarray, " f"]:
    """Cosine between each frame's embedding and the reference picture's, -1 to 1."""
    return _unit(frames) @ _unit(reference)


@typechecked
def among_frames(frames: Float[np.ndarray, "f d"]) -> float:
    """Mean cosine over all pairs of different frames; NaN for a single frame.

    High for a video whose character never changes, be it the right one or not.
    """
    count = len(frames)
    if count < 2:
        return float("nan")
    total = np.square(_unit(frames).sum(axis=0)).sum()
    return float((total - count) / (count * (count - 1)))


def _unit(x: np.ndarray) -> np.ndarray:
    """`x` in float64 with length 1 along the last axis.

    Raises `ValueError` for an embedding of zeros, which has no direction.
    """
    x = x.astype(np.float64)
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    if not length.all():
        raise ValueError("expected embeddings that are not zero, found one of zeros")
    return x / length
