"""The drawn example."""

import numpy as np

from realisdance_jax.data.demo_clip import write_demo_clip
from realisdance_jax.data.video_io import read_frames


def test_hosts_that_draw_it_agree(tmp_path):
    """Lossy films of this size differ in one case of ten, from run to run."""
    films = []
    for i in range(30):
        (tmp_path / str(i)).mkdir()
        files = write_demo_clip(tmp_path / str(i), 6, 32, 32)
        films.append(np.stack([*read_frames(files.hamer), *read_frames(files.smpl)]))
    assert films[0].max() > 100
    for film in films:
        np.testing.assert_array_equal(film, films[0])
