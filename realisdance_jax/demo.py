"""Animate an embedded example on any machine: `python -m realisdance_jax.demo --out out`.

The weights are random, so the video shows that everything runs and not what the model can do.
"""

from pathlib import Path

from realisdance_jax.checkpoints.random_weights import write_random_weights
from realisdance_jax.data.demo_clip import write_demo_clip
from realisdance_jax.models.config import (
    DinoConfig,
    MotionConfig,
    PoseGuiderConfig,
    RealisDanceConfig,
    UNetConfig,
    VAEConfig,
)
from realisdance_jax.sampling.config import SampleConfig
from realisdance_jax.sampling.output import write_outputs, write_sheet
from realisdance_jax.sampling.sampler import animate, load
from realisdance_jax.sampling.targets import check_folder
from realisdance_jax.utils.cli import Parser
from realisdance_jax.utils.compilation import keep_compiled
from realisdance_jax.utils.errors import exit_on_user_error

TINY = RealisDanceConfig(
    unet=UNetConfig(widths=(32, 32, 64, 64), context_dim=32),
    pose=PoseGuiderConfig(encoder_widths=(8, 8, 16, 24), gate_width=12),
    dino=DinoConfig(width=48, layers=2, heads=4, table_size=5),
    vae=VAEConfig(widths=(32, 32, 32, 32)),
    motion=MotionConfig(),
)


def main() -> None:
    parser = Parser(prog="realisdance_jax.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the results")
    parser.add_argument("--steps", type=int, default=10, help="denoising steps")
    parser.add_argument("--frames", type=int, default=16, help="frames to animate")
    options = parser.parse_args()
    config = SampleConfig(size=(128, 96), stride=1, steps=options.steps, max_frames=options.frames)
    check_folder(options.out)
    files = write_demo_clip(options.out / "demo_input", options.frames)
    weights = options.out / "demo_weights"
    write_random_weights(weights, TINY)
    keep_compiled()
    pipeline = load(weights)
    drivers = (files.dwpose, files.hamer, files.smpl)
    animation = animate(
        pipeline, files.reference, *drivers, config=config, progress=True, say=print
    )
    paths = write_outputs(options.out / "demo.mp4", animation, gates=True)
    sheet = options.out / "demo.png"
    write_sheet(sheet, animation, rows=4)
    for path in (*paths, sheet):
        print(f"wrote {path}")
    print("The weights are random: the result is noise in the reference's colours.")


if __name__ == "__main__":
    exit_on_user_error(main)
