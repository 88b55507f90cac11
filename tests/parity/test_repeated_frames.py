"""A sampling run whose windows hold a frame twice, which the official code writes over itself."""

import numpy as np

from tests.golden_files import GOLDEN
from tests.parity.report import SAMPLING, Table
from tests.parity.test_sampling import official_latents, run


def test_latents_with_repeats(record_property):
    """Six frames, windows of 4, two strides: one window is 0, 2, 4, 0 (parity.md: H16)."""
    with np.load(GOLDEN / "hazard_duplicate_windows.npz") as archive:
        official = archive["latents"]
    options = {"window_size": 4, "window_stride": 2, "window_overlap": 1, "window_batch": 2}
    steps, _ = run(2, official.shape[3], **options)
    table = Table(record_property, "hazard_duplicate_windows", SAMPLING)
    table.row("latents", official_latents(steps, 2), official)
    table.verify()
