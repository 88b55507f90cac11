"""Frozen checkpoints and name lists under golden/ (origin: golden/README.md)."""

import json
import lzma
import tarfile
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"


def load_keys(name: str) -> dict[str, tuple[int, ...]]:
    """{tensor name: shape} of a full-size checkpoint, in file order.

    name: stage1, stage2, sd15_unet, sd_vae, dinov2_large or animatediff_mm_v2.
    """
    text = lzma.decompress((GOLDEN / "keys" / f"{name}.json.xz").read_bytes())
    return {key: tuple(shape) for key, shape in json.loads(text).items()}


def oracle_checkpoints(folder: Path) -> Path:
    """Unpack the oracle's tiny official-format checkpoints into `folder` (103 MB, one second).

    stage1.ckpt, stage2.ckpt (torch.save), the same as .safetensors without `module.`, and
    pretrained/{unet,vae,image_encoder,scheduler} in diffusers and transformers layout.
    """
    with tarfile.open(GOLDEN / "oracle_checkpoints.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder
