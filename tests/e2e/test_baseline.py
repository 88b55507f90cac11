"""The baseline trains, and its weights folder says what it is: `sample` takes it as any other."""

import numpy as np

from realisdance_jax.checkpoints.export import weights_of
from realisdance_jax.checkpoints.weights import read_manifest
from realisdance_jax.sampling.config import SampleConfig
from realisdance_jax.sampling.sampler import animate, load
from tests.e2e.train_call import steps, train


def test_the_baseline_trains_and_samples(tmp_path, clip):
    run = tmp_path / "run"
    ended = train("baseline", run, "--config.train.steps=3", "--config.train.save_every=3")
    assert ended.code == 0, ended
    assert steps(ended.out) == [1, 2, 3]
    folder = weights_of(run, lambda line: None)
    manifest = read_manifest(folder)
    assert (manifest.model.pose.kind, manifest.model.pose.conditions) == ("embedding", ("dwpose",))
    pipeline = load(folder)
    windows = {"window_size": 3, "window_overlap": 1}
    config = SampleConfig(size=(64, 48), stride=1, max_frames=3, steps=2, **windows)
    shown = animate(pipeline, clip.reference, clip.dwpose, config=config)
    assert shown.video.shape == (3, 64, 48, 3)
    assert np.isfinite(shown.video).all()
    assert shown.gates.shape[-1] == 1
    np.testing.assert_array_equal(shown.gates, 1)
