"""Animate an unseen dancer on any machine: `python -m realisdance_jax.demo --out out`.

Person and dance are held out from training; the weights, a small model of the dancers' world, come
with the package. The same dance follows with DWPose skeletons that are wrong half of the time.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from realisdance_jax.checkpoints.folder import weights_folder
from realisdance_jax.data.corruptions import Corruption
from realisdance_jax.data.dancer_clips import DancerClip, split_seeds
from realisdance_jax.data.images import contact_sheet, read_image, save_png
from realisdance_jax.data.transforms import crop_resize, dino_size, imagenet_normalise, to_signed
from realisdance_jax.data.video_io import VideoWriter
from realisdance_jax.evaluation.protocols import Scene, hit_frames, scene_inputs, scene_truth
from realisdance_jax.sampling.config import SampleConfig
from realisdance_jax.sampling.encode import Clip
from realisdance_jax.sampling.output import LABELS, write_outputs
from realisdance_jax.sampling.pipeline import Pipeline, load
from realisdance_jax.sampling.sampler import Animation, sample_clip
from realisdance_jax.sampling.targets import beside, check_output, check_outputs
from realisdance_jax.shapes import Bool, UInt8
from realisdance_jax.utils.cli import Parser
from realisdance_jax.utils.compilation import keep_compiled
from realisdance_jax.utils.errors import UserError, exit_on_user_error

EMBEDDED = Path(__file__).parent / "embedded"
SHIPPED = {"ours": EMBEDDED / "ours.npz", "baseline": EMBEDDED / "base.npz"}
MODELS = {name: file for name, file in SHIPPED.items() if file.is_file()}
"""Each gets a column in the film with wrong poses."""

SIZE, STRIDE, FPS = (128, 96), 2, 12.0
"""As in training: pixels, and every second one of 24 frames per second."""

FRAMES = 24
USUAL = FRAMES * STRIDE + 1
"""Frames of a dance, unless more than `FRAMES` are to be animated."""

DEMO, WRONG_DEMO = "demo", "demo_wrong_dwpose"
WRONG = Corruption(dwpose=0.5)
ENLARGED, ROWS = 2, 4
EDGE, RED = 4, (220, 30, 30)

Panel = UInt8[np.ndarray, "f H W 3"]


def enlarged(pictures: UInt8[np.ndarray, "f H W d"]) -> UInt8[np.ndarray, "f H2 W2 d"]:
    """Twice as high and wide, for the pictures of the small world are small."""
    height, width = (ENLARGED * side for side in pictures.shape[1:3])
    large = [cv2.resize(x, (width, height), interpolation=cv2.INTER_CUBIC) for x in pictures]
    return np.stack(large)


def frames_of(animation: Animation) -> Panel:
    """The result as bytes."""
    return np.stack([animation.frame(i) for i in range(len(animation.video))])


def condition(animation: Animation, name: str) -> Panel:
    """One of the stacked conditions."""
    place = 3 * animation.conditions.index(name)
    return animation.pictures[..., place : place + 3]


def framed(panel: Panel, marked: Bool[np.ndarray, " f"]) -> Panel:
    """`panel` with a red frame around the `marked` pictures."""
    edge = np.ones(panel.shape[1:3], bool)
    edge[EDGE:-EDGE, EDGE:-EDGE] = False
    return np.where((marked[:, None, None] & edge)[..., None], np.array(RED, np.uint8), panel)


def write_panels(film: Path, sheet: Path, columns: dict[str, Panel]) -> list[Path]:
    """Labelled columns side by side; a few of the frames on the sheet."""
    labels = list(columns)
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    with VideoWriter(film, FPS, contact_sheet(rows[:1], labels).shape[:2]) as writer:
        for row in rows:
            writer.write(contact_sheet([row], labels))
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(ROWS, len(rows))).round().astype(int))
    save_png(sheet, contact_sheet([rows[i] for i in chosen], labels))
    return [film, sheet]


def make_scene(number: int, frames: int, wrong: Corruption) -> Scene:
    """A held-out person in a held-out dance, the first frame of which is the reference."""
    indices = tuple(range(STRIDE, (frames + 1) * STRIDE, STRIDE))
    length = max(indices[-1] + 1, USUAL)  # another length is another dance
    clip = DancerClip(*split_seeds("test", number), length, SIZE, wrong)
    return Scene(number, "true", clip, indices, wrong)


def with_reference(inputs: Clip, picture: UInt8[np.ndarray, "H W 3"]) -> Clip:
    """The same dance by whom the picture shows."""
    signed = to_signed(crop_resize(picture, SIZE))
    seen = imagenet_normalise(crop_resize(picture, dino_size(SIZE)))
    return dataclasses.replace(inputs, reference=signed, encoder_image=seen)


def misfit(picture: UInt8[np.ndarray, "H W 3"]) -> str:
    """What of a reference will not be as its owner may think; nothing where it fits."""
    (height, width), (rows, columns) = picture.shape[:2], SIZE
    words = f"expected {columns}x{rows} of a dancer, or a multiple, found {width}x{height}: "
    if abs(width * rows - height * columns) > 0.02 * height * columns:
        return words + "what is beyond the middle in these proportions is cut off"
    return words + "it is enlarged" if height < rows or width < columns else ""


def sampled(
    pipeline: Pipeline, scene: Scene, config: SampleConfig, picture: np.ndarray | None
) -> Animation:
    """The scene, or its dance by whom `picture` shows; enlarged."""
    inputs = scene_inputs(scene, SIZE, pipeline.conditions)
    if picture is not None:
        inputs = with_reference(inputs, picture)
    animation = sample_clip(pipeline, inputs, config, progress=True)
    return dataclasses.replace(
        animation,
        video=enlarged(frames_of(animation)).astype(np.float32) / 255,
        reference=enlarged(animation.reference[None])[0],
        pictures=enlarged(animation.pictures),
        fps=FPS,
    )


def check_targets(out: Path) -> None:
    """Raise `UserError` unless everything can be written into the folder `out`."""
    for name in (DEMO, WRONG_DEMO):
        check_outputs([out / f"{name}.mp4"], (), gates=True)
        check_output(out / f"{name}.png", ".png")


def write_animation(out: Path, animation: Animation, truth: dict[str, Panel]) -> list[Path]:
    """Into the folder `out`: the video, its gate weights, all that led to it side by side."""
    video = out / f"{DEMO}.mp4"
    paths = write_outputs(video, animation, side_by_side=False, gates=True)
    still = np.repeat(animation.reference[None], len(animation.video), axis=0)
    poses = {LABELS[name]: condition(animation, name) for name in animation.conditions}
    columns = {"reference": still, **poses, "result": frames_of(animation), **truth}
    film, sheet = beside(video, "side_by_side"), video.with_suffix(".png")
    return [*paths, *write_panels(film, sheet, columns)]


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="realisdance_jax.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the results")
    parser.add_argument("--ref", type=Path, help="picture of another dancer, to dance instead")
    parser.add_argument("--dance", type=int, default=0, help="number of the held-out dance")
    parser.add_argument("--steps", type=int, default=1, help="denoising steps")
    parser.add_argument(
        "--frames", type=int, default=FRAMES, help=f"to animate; beyond {FRAMES} another dance"
    )
    parser.add_argument("--guidance", type=float, default=1.0, help="1 or less: none")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    return parser


def run(options: argparse.Namespace, models: dict[str, Path]) -> Sequence[Path]:
    """Write everything; returns the paths."""
    config = SampleConfig(
        size=SIZE,
        stride=1,
        steps=options.steps,
        spacing="trailing",
        color=False,
        max_frames=options.frames,
        guidance=options.guidance,
        seed=options.seed,
        windows="blend",
    )
    true, wrong = (make_scene(options.dance, options.frames, x) for x in (Corruption(), WRONG))
    if "ours" not in models:
        raise UserError(f"{SHIPPED['ours']}: expected the embedded weights, found no such file")
    picture = None if options.ref is None else read_image(options.ref)
    check_targets(options.out)
    if picture is not None and (note := misfit(picture)):
        tqdm.write(f"note: {options.ref}: {note}")
    truth: dict[str, Panel] = {}
    if picture is None:
        truth = {"truth": enlarged(scene_truth(true, SIZE).frames)}
    pipelines = {}
    for name, file in models.items():
        with weights_folder(file) as folder:
            pipelines[name] = load(folder)
    animation = sampled(pipelines["ours"], true, config, picture)
    paths = write_animation(options.out, animation, truth)
    found = {name: sampled(pipelines[name], wrong, config, picture) for name in models}
    columns = {
        "DWPose, red: wrong": framed(
            condition(found["ours"], "dwpose"), hit_frames(wrong, "dwpose")
        ),
        **{name: frames_of(animation) for name, animation in found.items()},
        **truth,
    }
    film, sheet = (options.out / f"{WRONG_DEMO}{suffix}" for suffix in (".mp4", ".png"))
    return [*paths, *write_panels(film, sheet, columns)]


def main() -> None:
    options = make_parser().parse_args()
    keep_compiled()
    for path in run(options, MODELS):
        tqdm.write(f"wrote {path}")


if __name__ == "__main__":
    exit_on_user_error(main)
