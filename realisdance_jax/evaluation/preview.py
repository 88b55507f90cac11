"""Sample videos of a model in training, from a case that is never trained on."""

import dataclasses
import tempfile
from pathlib import Path

import jax

from realisdance_jax.checkpoints.weights import Manifest
from realisdance_jax.data.demo_clip import write_demo_clip
from realisdance_jax.models.compute import Compute
from realisdance_jax.models.dinov2 import DinoV2
from realisdance_jax.models.realisdance import RealisDance
from realisdance_jax.models.vae import VAE
from realisdance_jax.sampling.config import SampleConfig
from realisdance_jax.sampling.output import write_outputs, write_sheet
from realisdance_jax.sampling.pipeline import Pipeline
from realisdance_jax.sampling.sampler import animate
from realisdance_jax.training.loop import Preview
from realisdance_jax.training.program import Program
from realisdance_jax.training.step import Frozen, TrainState
from realisdance_jax.utils.tree import unflatten

FOLDER = "samples"


def make_preview(run: Path, program: Program, frozen: Frozen, manifest: Manifest) -> Preview:
    """A function (step, state) that writes RUN/samples/STEP.mp4, gates and a contact sheet.

    The case is the project's own drawing, which no data set holds. With a moving average the
    videos show the average. Programs are compiled at the first call and kept. All hosts take part;
    the first one writes.
    """
    recipe = program.recipe
    compute = dataclasses.replace(program.networks.model.compute, training=False, remat="none")
    pipeline = Pipeline(
        manifest=manifest,
        model=RealisDance(recipe.model, compute),
        variables={},
        dino=DinoV2(recipe.model.dino, Compute(mesh=program.mesh)),
        dino_variables=frozen.dino,
        vae=VAE(recipe.model.vae),
        vae_params=frozen.vae,
        mesh=program.mesh,
    )
    frames = 16 if recipe.model.motion is None else min(16, recipe.model.motion.max_frames)
    config = SampleConfig(
        size=recipe.data.size, stride=1, steps=recipe.train.preview_steps, max_frames=frames
    )

    def preview(step: int, state: TrainState) -> None:
        flat = {**frozen.model, **(state.ema or state.trainable)}
        current = dataclasses.replace(pipeline, variables=unflatten(flat))
        with tempfile.TemporaryDirectory() as folder:
            files = write_demo_clip(Path(folder), frames, *recipe.data.size)
            drivers = {name: getattr(files, name) for name in recipe.model.pose.conditions}
            animation = animate(current, files.reference, **drivers, config=config)
        if jax.process_index():
            return
        out = run / FOLDER / f"{step:07d}.mp4"
        write_outputs(out, animation, gates=True)
        write_sheet(out.with_suffix(".png"), animation, 4)
        print(f"wrote {out}", flush=True)

    return preview
