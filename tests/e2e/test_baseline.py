"""The baseline trains with previews, and its weights folder says what it is."""

from realisdance_jax.checkpoints.export import weights_of
from realisdance_jax.checkpoints.weights import read_manifest
from realisdance_jax.data.video_io import probe_video
from tests.e2e.train_call import steps, train


def test_the_baseline_trains_and_samples(tmp_path):
    """Previews are drawn by the sampler, from the one condition that it knows."""
    run = tmp_path / "run"
    saving = ("--config.train.save_every=3", "--config.train.preview_every=3")
    ended = train("baseline", run, "--config.train.steps=3", *saving)
    assert ended.code == 0, ended
    assert steps(ended.out) == [1, 2, 3]
    manifest = read_manifest(weights_of(run, lambda line: None))
    assert (manifest.model.pose.kind, manifest.model.pose.conditions) == ("embedding", ("dwpose",))
    assert probe_video(run / "samples" / "0000003.mp4").frames == 6
