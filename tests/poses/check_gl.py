"""By hand, where moderngl and an EGL driver exist: `python -m tests.poses.check_gl`.

Paints the same meshes with NumPy and OpenGL; the masks must be equal and colours within one level.
"""

import numpy as np

from realisdance_jax.poses import gl
from realisdance_jax.poses.body_models import mano_model, smplx_model
from realisdance_jax.poses.hamer_look import close_wrist, full_frame_camera, mirrored, paint_hands
from realisdance_jax.poses.raster import Camera
from realisdance_jax.poses.smpl_cs import harmonic_colours, paint_smpl_cs
from realisdance_jax.poses.synthetic_models import synthetic_mano, synthetic_smplx


def compare(name: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    """Print and assert."""
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    mask = np.count_nonzero(ours.any(axis=-1) != theirs.any(axis=-1))
    print(f"{name}: {ours.any(axis=-1).sum()} pixels, mask {mask}, colour {difference.max()}")
    assert ours.any()
    assert mask == 0
    assert difference.max() <= 1


def main() -> None:
    body, hand = smplx_model(synthetic_smplx()), mano_model(synthetic_mano())
    colours = harmonic_colours(body.template, body.faces)
    standing = body.template * np.float32([1, -1, -1]) + np.float32([0, -0.45, 3])
    for size, focal in (((512, 512), 700.0), ((768, 576), 1000.0), ((1080, 1920), 1500.0)):
        camera = Camera((focal, focal), (size[1] / 2 + 0.3, size[0] / 2 + 0.1))
        for look in ("sd", "dit"):
            given = (standing, body.faces, colours, camera, size, look)
            compare(f"{look} {size}", paint_smpl_cs(*given), paint_smpl_cs(*given, fill=gl.fill))
        turn = np.array([[1, 0, 0], [0, 0.2, -0.98], [0, 0.98, 0.2]])
        right = hand.template.astype(np.float64) @ turn.T
        hands = np.stack(
            [right + np.array([0.05, 0, 300]), mirrored(right) + np.array([-0.02, 0.03, 300.01])]
        )
        sides, lid = np.array([True, False]), close_wrist(hand.faces)
        given = (hands, sides, lid, full_frame_camera(size, 700.0 * focal), size)
        compare(f"hamer {size}", paint_hands(*given), paint_hands(*given, fill=gl.fill))


if __name__ == "__main__":
    main()
