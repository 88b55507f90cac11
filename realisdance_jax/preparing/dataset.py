"""Training data from videos or pictures: `python -m realisdance_jax.prepare dataset ...`."""

import os
from argparse import Namespace
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from tqdm import tqdm

from realisdance_jax.checkpoints.export import weights_of
from realisdance_jax.checkpoints.weights import load_component, read_manifest
from realisdance_jax.data.builder import write_cached, write_encoded
from realisdance_jax.data.catalogue import open_source
from realisdance_jax.data.config import CONDITIONS, DANCER, DRAWN, SYNTHETIC, DataConfig
from realisdance_jax.data.dancer_source import DancerSource, PackedSource
from realisdance_jax.data.sources import ClipSource
from realisdance_jax.data.stored import ENCODERS, StoredIndex, encoder_name
from realisdance_jax.data.validation import Limits, Verdict, validate
from realisdance_jax.models.compute import exact_products
from realisdance_jax.models.dinov2 import DinoV2
from realisdance_jax.models.vae import VAE
from realisdance_jax.parallel.mesh import make_mesh
from realisdance_jax.preparing.values import size_value
from realisdance_jax.shapes import Float
from realisdance_jax.utils.errors import UserError

DEFAULTS = Limits((768, 576))


class Networks:
    """VAE encoder and DINOv2 of a weights folder, in float32 over all devices."""

    def __init__(self, folder: Path, chunk: int):
        manifest = read_manifest(folder)
        for name in ENCODERS:
            if name not in manifest.components:
                raise UserError(f"{folder}: expected the component {name} for a cache, found none")
        mesh = make_mesh({"data": -1})
        self.chunk = -(-chunk // mesh.size) * mesh.size
        self.name = encoder_name(manifest.components)
        self._rows = NamedSharding(mesh, PartitionSpec("data"))
        everywhere = NamedSharding(mesh, PartitionSpec())
        self._vae = load_component(folder, manifest, "vae", sharding=everywhere)["params"]
        self._dino = load_component(folder, manifest, "image_encoder", sharding=everywhere)
        self._posterior = jax.jit(VAE(manifest.model.vae).posterior)
        self._tokens = jax.jit(DinoV2(manifest.model.dino).apply)

    def posterior(self, pictures: Float[np.ndarray, "f H W 3"]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of unscaled latents."""
        return self._run(self._posterior, self._vae, pictures)

    def tokens(self, pictures: Float[np.ndarray, "f h w 3"]) -> Float[np.ndarray, "f m c"]:
        """All tokens of normalised pictures."""
        return self._run(self._tokens, self._dino, pictures)

    def _run(self, function: Any, variables: dict, pictures: np.ndarray) -> Any:
        """In chunks of one shape; what fills the last one is cut off again."""
        count = len(pictures)
        filled = np.concatenate([pictures, np.repeat(pictures[-1:], self.chunk - count, axis=0)])
        with exact_products():
            result = function(variables, jax.device_put(filled, self._rows))
        return jax.tree.map(lambda array: np.asarray(array)[:count], result)


def add_command(commands: Any) -> None:
    """The options, as a command of `commands` (from `add_subparsers`)."""
    about = "check clips and pack them into ArrayRecord shards"
    dataset = commands.add_parser("dataset", help=about, description=about)
    dataset.set_defaults(run=run)
    files = dataset.add_argument_group("files")
    kinds = "official folder, image list, synthetic, or dancer"
    files.add_argument("--source", required=True, help=kinds)
    files.add_argument("--out", type=Path, required=True, help="folder to write, a new one")
    split = "sub-folder of --source with video/; of dancers also test, test_identity, test_motion"
    files.add_argument("--split", default="train", help=split)
    files.add_argument("--hamer-root", default="", help="HaMeR renderings of an image list")
    files.add_argument("--smpl-root", default="", help="SMPL renderings of an image list")
    names = ",".join(CONDITIONS)
    files.add_argument("--conditions", default=names, help="which poses to keep, with commas")
    checks = dataset.add_argument_group("checks: clips that fail are skipped and reported")
    checks.add_argument("--size", type=size_value, default="768x576", help="of training, HxW")
    checks.add_argument("--min-frames", type=int, default=DEFAULTS.min_frames, help="at least")
    checks.add_argument(
        "--max-empty", type=float, default=DEFAULTS.max_empty, help="share of frames without a body"
    )
    checks.add_argument(
        "--max-upscale", type=float, default=DEFAULTS.max_upscale, help="enlargement of a crop"
    )
    workers = "clips checked, or dancers drawn, at once"
    checks.add_argument("--workers", type=int, default=os.cpu_count(), help=workers)
    drawn = dataset.add_argument_group("synthetic and dancer: drawn here")
    drawn.add_argument("--clips", type=int, help="how many (default: 64)")
    drawn.add_argument("--clip-frames", type=int, help="length of each (default: 64)")
    shares = "of a dancer's frames with a wrong DWPose, HaMeR, SMPL-CS, 0 to 1, for good"
    drawn.add_argument("--corruption", metavar="D,H,S", help=f"shares {shares} (default: 0,0,0)")
    drawn.add_argument("--seed", type=int, help="which frames are wrong, and how (default: 0)")
    cache = dataset.add_argument_group("cache: no video is decoded in training, no random crops")
    cache.add_argument("--cache", action="store_true", help="store latents, tokens and conditions")
    cache.add_argument("--weights", type=Path, help="folder written by convert, or a run")
    possible = "frames per clip that may be the reference, evenly spaced; 0 is all"
    cache.add_argument("--references", type=int, default=0, help=possible)
    cache.add_argument("--chunk", type=int, default=8, help="frames per call of the networks")


def check_numbers(options: Namespace) -> None:
    """Raise `UserError` for a number out of range."""
    least = {"workers": 0, "min_frames": 1, "max_empty": 0, "max_upscale": 0}
    for name, low in {**least, "references": 0, "chunk": 1}.items():
        if not (found := getattr(options, name) or 0) >= low:
            option = name.replace("_", "-")
            raise UserError(f"--{option}: expected at least {low}, found {found}")


def drawing_options(options: Namespace) -> dict[str, Any]:
    """The options of drawn sources as values of `DataConfig`; `UserError` where they mean nothing.

    Films and image lists have none of them; only dancers can be corrupted.
    """
    given = {
        "clips": ("synthetic_clips", options.clips, DRAWN),
        "clip-frames": ("synthetic_frames", options.clip_frames, DRAWN),
        "corruption": ("corruption", options.corruption, (DANCER,)),
        "seed": ("corruption_seed", options.seed, (DANCER,)),
    }
    values = {}
    for option, (key, value, sources) in given.items():
        if value is None:
            continue
        if options.source not in sources:
            names = " or ".join(sources)
            raise UserError(f"--{option}: expected --source {names}, found {options.source}")
        values[key] = _shares(value) if key == "corruption" else value
    return values


def _shares(text: str) -> tuple[float, ...]:
    """`0.5,0,0` or, for all three alike, `0.5`."""
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        expected = "one share or three with commas"
        raise UserError(f"--corruption: expected {expected}, found {text!r}") from None
    return shares * 3 if len(shares) == 1 else shares


def check_clips(source: ClipSource, options: Namespace, config: DataConfig) -> list[Verdict]:
    """Read every clip, say what is skipped and why."""
    limits = Limits(options.size, options.max_empty, options.max_upscale, options.min_frames)
    checked = validate(source, config.conditions, limits, options.workers)
    verdicts = list(tqdm(checked, "checking", len(source), unit="clip"))
    skipped = [verdict for verdict in verdicts if verdict.reason]
    for verdict in skipped:
        print(f"skipped {verdict.name}: {verdict.reason}")
    frames = sum(verdict.frames for verdict in verdicts)
    kept = len(verdicts) - len(skipped)
    print(f"checked {len(verdicts)} clips: {kept} kept ({frames} frames), {len(skipped)} skipped")
    return verdicts


def prepare_dataset(options: Namespace) -> StoredIndex:
    """Check, then write. Raises `UserError` for bad input."""
    check_numbers(options)
    if options.cache != (options.weights is not None):
        raise UserError("expected --cache and --weights together, found one of them")
    if options.out.exists():
        raise UserError(f"{options.out}: expected a new folder, found one that exists")
    config = DataConfig(
        sources=(options.source,),
        split=options.split,
        hamer_root=options.hamer_root,
        smpl_root=options.smpl_root,
        size=options.size,
        conditions=tuple(name for name in options.conditions.split(",") if name),
        **drawing_options(options),
    )
    source = open_source(options.source, config)
    if not isinstance(source, ClipSource):
        raise UserError(f"{options.source}: expected videos or pictures, found a cache")
    if options.source == SYNTHETIC and not options.cache:
        raise UserError(f"{SYNTHETIC}: expected files to pack (or --cache), found drawn pictures")
    networks = Networks(weights_of(options.weights), options.chunk) if options.cache else None
    if isinstance(source, DancerSource):  # true by construction, and wrong on purpose
        verdicts = [Verdict(source.name(n), source.frames(n)) for n in range(len(source))]
        source = PackedSource(source, config.conditions, processes=max(1, options.workers))
    else:
        verdicts = check_clips(source, options, config)
    progress = partial(_progress, "encoding" if networks else "packing")
    common = (source, verdicts, config.conditions, options.out)
    if networks is None:
        return write_encoded(*common, progress)
    how = (networks, options.size, options.references, networks.chunk)
    return write_cached(*common, *how, progress)


def _progress(label: str, numbers: Sequence[int]) -> Iterable[int]:
    return tqdm(numbers, label, unit="clip")


def run(options: Namespace) -> None:
    """`prepare dataset`: write, then say what was written."""
    index = prepare_dataset(options)
    size = sum(file.stat().st_size for file in options.out.rglob("*") if file.is_file())
    print(
        f"wrote {options.out}: {index.kind}, {len(index.names)} clips, {sum(index.frames)} frames, "
        f"{size / 1e6:.1f} MB, fingerprint {index.fingerprint[:16]}"
    )
