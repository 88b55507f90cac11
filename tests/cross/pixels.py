"""PSNR and SSIM by scikit-image, frozen: `python -m tests.cross.pixels` where it is installed.

Not a dependency of this project, not even of its tests: tests/metrics/test_pixels.py reads
tests/golden/metric_pixels.npz.
"""

from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden" / "metric_pixels.npz"


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """8-bit frames `f h w 3`: smooth with noise of growing strength, then flat, then unrelated."""
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[0:37, 0:45]
    waves = np.sin(rows / 5)[..., None] + np.cos(columns[..., None] / np.array([3, 6, 9]))
    truth = np.repeat((127.5 + 60 * waves)[None], 6, axis=0)
    noise = rng.normal(size=truth.shape) * np.array([0.4, 3, 12, 40, 2, 0])[:, None, None, None]
    truth[4] = 200
    truth[5] = rng.integers(0, 256, truth.shape[1:])
    generated = truth + noise
    generated[5] = rng.integers(0, 256, truth.shape[1:])
    return tuple(np.clip(np.rint(x), 0, 255).astype(np.uint8) for x in (generated, truth))


def main() -> None:
    import cv2
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    generated, truth = pictures()
    greys = [[cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in xs] for xs in (generated, truth)]
    pairs = list(zip(generated, truth, strict=True))
    np.savez_compressed(
        GOLDEN,
        generated=generated,
        truth=truth,
        psnr=[peak_signal_noise_ratio(b, a) for a, b in pairs],
        ssim_grey=[structural_similarity(a, b) for a, b in zip(*greys, strict=True)],
        ssim_colour=[structural_similarity(a, b, channel_axis=-1) for a, b in pairs],
        map_grey=structural_similarity(greys[0][2], greys[1][2], full=True)[1],
    )


if __name__ == "__main__":
    main()
