"""The oracle's checkpoints, unpacked once and removed at the end."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.golden_files import oracle_checkpoints


@pytest.fixture(scope="session")
def oracle_folder() -> Iterator[Path]:
    """Folder with stage{1,2}.ckpt, stage{1,2}.safetensors and pretrained/."""
    with tempfile.TemporaryDirectory() as folder:
        yield oracle_checkpoints(Path(folder))
