"""The oracle's checkpoints, unpacked and converted once and removed at the end."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from realisdance_jax.checkpoints.convert.plan import Request
from realisdance_jax.checkpoints.convert.to_jax import convert_to_jax
from tests.checkpoints.files import Converted
from tests.golden_files import oracle_checkpoints


@pytest.fixture(scope="session")
def oracle_folder() -> Iterator[Path]:
    """Folder with stage{1,2}.ckpt, stage{1,2}.safetensors and pretrained/."""
    with tempfile.TemporaryDirectory() as folder:
        yield oracle_checkpoints(Path(folder))


@pytest.fixture(scope="session")
def stage2_weights(oracle_folder) -> Iterator[Converted]:
    """The stage-2 checkpoint with base and image encoder as a weights folder."""
    pretrained, said = oracle_folder / "pretrained", []
    request = Request(
        checkpoint=oracle_folder / "stage2.ckpt",
        base=pretrained,
        image_encoder=pretrained / "image_encoder",
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "weights"
        manifest = convert_to_jax(request, out, say=said.append)
        yield Converted(out, manifest, tuple(said))
