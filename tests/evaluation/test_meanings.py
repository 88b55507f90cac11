"""Units and directions that the page shows."""

import pytest

from realisdance_jax.evaluation.meanings import explained, meaning


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("psnr_hands", "psnr_hands (dB; better: higher)"),
        ("psnr_uint8_overflow", "psnr_uint8_overflow (dB as in old tables; better: higher)"),
        ("jitter_person", "jitter_person (grades of 255; better: lower)"),
        ("disco_l1", "disco_l1 (grades per pixel; better: lower)"),
        ("fid_vid_per_video", "fid_vid_per_video (distance; better: lower)"),
        ("lpips_disco", "lpips_disco (distance; better: lower)"),
        ("gate_smpl_wrong", "gate_smpl_wrong (weight 0 to 1; better: lower on wrong frames)"),
    ],
)
def test_unit_and_direction(metric, words):
    assert explained(metric) == words


def test_words_of_another_metric_are_not_guessed():
    with pytest.raises(KeyError, match="psnrhands"):
        meaning("psnrhands")
