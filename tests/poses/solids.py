"""Meshes whose pictures are known in closed form."""

import numpy as np


def sphere(rings: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit sphere of latitudes and longitudes, outward."""
    polar = np.linspace(0, np.pi, rings + 1)[1:-1, None]
    turns = np.arange(2 * rings) * np.pi / rings
    belt = np.stack(
        [np.sin(polar) * np.cos(turns), np.sin(polar) * np.sin(turns), np.cos(polar) + 0 * turns],
        axis=-1,
    )
    vertices = np.concatenate([[[0, 0, 1]], belt.reshape(-1, 3), [[0, 0, -1]]])
    number = 1 + np.arange(len(turns) * (rings - 1)).reshape(rings - 1, -1)
    following = np.roll(number, -1, axis=1)
    top = np.stack([np.zeros_like(number[0]), number[0], following[0]], axis=-1)
    bottom = np.stack([np.full_like(number[0], len(vertices) - 1), following[-1], number[-1]], -1)
    upper = np.stack([number[:-1], number[1:], following[1:]], axis=-1).reshape(-1, 3)
    lower = np.stack([number[:-1], following[1:], following[:-1]], axis=-1).reshape(-1, 3)
    return vertices, np.concatenate([top, bottom, upper, lower])


def board(depth: float, half: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A square across the optical axis that faces the camera."""
    corners = np.array([[-half, -half], [half, -half], [half, half], [-half, half]])
    vertices = np.concatenate([corners, np.full((4, 1), depth)], axis=1)
    return vertices, np.array([[0, 2, 1], [0, 3, 2]])
