"""Rotations over time: axis-angle to unit quaternions without jumps of sign, and back."""

import numpy as np

from realisdance_jax.shapes import Float, typechecked


@typechecked
def quaternions(axis_angle: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 4"]:
    """Unit quaternions (w, x, y, z) of rotations given as axis times angle in radians."""
    vectors = axis_angle.astype(np.float64)
    half = np.linalg.norm(vectors, axis=-1, keepdims=True) / 2
    return np.concatenate([np.cos(half), vectors * (np.sinc(half / np.pi) / 2)], axis=-1)


@typechecked
def axis_angles(quaternion: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 3"]:
    """Axis times angle (at most pi) of quaternions of any length but zero."""
    quaternion = np.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    real, vector = quaternion[..., :1], quaternion[..., 1:]
    length = np.linalg.norm(vector, axis=-1, keepdims=True)
    angle = 2 * np.arctan2(length, real)
    near_zero = 2 / np.where(real > 0, real, 1)
    return vector * np.where(length > 1e-12, angle / np.where(length > 0, length, 1), near_zero)


@typechecked
def continuous(quaternion: Float[np.ndarray, "f *n 4"]) -> Float[np.ndarray, "f *n 4"]:
    """The same rotations, every quaternion on the side of the one before it."""
    turned = np.zeros(quaternion.shape[:-1], bool)
    turned[1:] = np.einsum("f...i,f...i->f...", quaternion[1:], quaternion[:-1]) < 0
    return quaternion * np.where(np.cumsum(turned, axis=0) % 2, -1.0, 1.0)[..., None]
