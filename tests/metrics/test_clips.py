"""How videos become samples of FID-VID and FVD."""

import numpy as np
import pytest

from realisdance_jax.metrics.clips import network_frames, video_features


def video(frames: int) -> np.ndarray:
    """Frame i is grey with value i."""
    values = np.arange(frames, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(values, (frames, 12, 10, 3)).copy()


class Network:
    """Features are the time-ordered values of the centre pixel, read back to whole numbers."""

    def __init__(self, network):
        self.network, self.batches = network, []

    def __call__(self, clips):
        self.batches.append(len(clips))
        pixel = clips[:, :, 50, 50, 0].astype(np.float64)
        values = pixel + 114.7748 if self.network == "resnet3d" else (pixel + 1) * 127.5
        return np.stack([values[:, 0], values[:, -1], values.mean(axis=1)], axis=1)


@pytest.mark.parametrize("network", ["resnet3d", "i3d"])
def test_overlapping_samples_are_all_clips_of_16_frames(network):
    net = Network(network)
    samples = video_features(network, "overlapping", net, video(20), batch=2)
    starts = np.arange(5)
    np.testing.assert_allclose(
        samples, np.stack([starts, starts + 15, starts + 7.5], axis=1), atol=1e-3
    )
    assert net.batches == [2, 2, 1]


def test_a_video_is_one_sample_of_resnet_with_the_last_clip_filled_up():
    net = Network("resnet3d")
    samples = video_features("resnet3d", "per_video", net, video(18))
    last = (16 + 17 * 15) / 16
    np.testing.assert_allclose(samples, [[8, 16, (7.5 + last) / 2]], atol=1e-3)


def test_a_video_is_one_sample_of_i3d_in_one_pass():
    net = Network("i3d")
    samples = video_features("i3d", "per_video", net, video(37))
    np.testing.assert_allclose(samples, [[0, 36, 18]], atol=1e-3)
    assert net.batches == [1]


def test_a_video_without_a_whole_clip_is_refused():
    with pytest.raises(ValueError, match="at least 16 frames, found 15"):
        video_features("i3d", "overlapping", Network("i3d"), video(15))


def test_frames_are_resized_unclipped_and_scaled():
    edge = np.zeros((1, 40, 40, 3), np.uint8)
    edge[:, :, 20:] = 255
    frames = network_frames("i3d", edge)
    assert frames.shape == (1, 224, 224, 3)
    assert frames.dtype == np.float32
    assert frames.min() < -1.02, "bicubic overshoots, and is not clipped"
    assert frames.max() > 1.02
    white = network_frames("resnet3d", np.full((1, 9, 9, 3), 255, np.uint8))
    np.testing.assert_allclose(white[0, 5, 5], [140.2252, 147.2646, 155.525], atol=1e-3)
