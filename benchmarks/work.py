"""FLOPs of a clip's sampling, with the exact caches and in the order of the release."""

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.plain import branch_program
from benchmarks.presets import Preset
from realisdance_jax.checkpoints.variables import ALL_COMPONENTS, abstract_component
from realisdance_jax.checkpoints.weights import merge
from realisdance_jax.data.transforms import dino_size
from realisdance_jax.models.compute import Compute
from realisdance_jax.models.dinov2 import DinoV2
from realisdance_jax.models.jaxpr_flops import count, total
from realisdance_jax.models.realisdance import COMPONENTS, RealisDance
from realisdance_jax.models.vae import VAE
from realisdance_jax.sampling.programs import ClipState, Guidance, make_window_step
from realisdance_jax.sampling.windows import WindowPlan


def _shape(*axes: int) -> Any:
    return jax.ShapeDtypeStruct(axes, jnp.float32)


class Work:
    """FLOPs of the pieces of a preset, for one window of its clip.

    step: the denoising step. guide: of a window. frame: the pose features of one. clip: what else
    is made once. plain: both branches of the release.
    """

    def __init__(self, preset: Preset):
        config, self._found = preset.model, 0
        # Inside the kernels that `auto` takes, operations cannot be counted.
        compute = Compute(attention="xla")
        model = RealisDance(config, compute)
        parts = {name: dict(abstract_component(config, name)) for name in ALL_COMPONENTS}
        variables = merge(*(parts[name] for name in COMPONENTS))

        def call(method: str, *inputs: Any) -> tuple[int, Any]:
            found, out = count(lambda v, *x: model.apply(v, *x, method=method), variables, *inputs)
            return total(found), out

        height, width = preset.size
        channels = 3 * len(config.pose.conditions)
        picture, image = _shape(1, height, width, 3), _shape(1, *dino_size(preset.size), 3)
        dino = count(DinoV2(config.dino, compute).apply, parts["image_encoder"], image)
        vae = count(VAE(config.vae).encode, parts["vae"]["params"], picture)
        self.encoders = total(dino[0]) + total(vae[0])
        tokens, latents = dino[1], vae[1]
        clip = [call("project", tokens)]
        context = clip[0][1]
        one = call("project", _shape(1, 1, tokens.shape[-1]))
        clip += [one, call("context_kv", context), call("fold_context", one[1])]
        features = call("encode_reference", latents, context)
        reference = call("reference_kv", features[1])
        self.clip = sum(flops for flops, _ in (*clip, features, reference))
        pictures = _shape(1, preset.window, height, width, channels)
        encoded, (pose, _) = call("encode_pose", pictures)
        self.frame = encoded // preset.window
        self.guide, guided = call("guide", pose)
        x, t = _shape(1, preset.window, *latents.shape[1:]), jax.ShapeDtypeStruct((), jnp.int32)
        state = ClipState(clip[2][1], clip[3][1], reference[1], None)
        step = make_window_step(model, Guidance(2.0))
        self.step = total(count(step, variables, state, guided, x, t)[0])
        branches = (branch_program(model, conditional) for conditional in (True, False))
        inputs = (variables, tokens, latents, pictures, x, t)
        self.plain = sum(total(count(branch, *inputs)[0]) for branch in branches)

    def exact_steps(self, windows: int, guided: int) -> int:
        """Of steps that have so many windows and make the guidance of so many."""
        return windows * self.step + guided * self.guide

    def exact_clip(self, windows: int, guided: int, frames: int) -> int:
        """With everything made once, steps as in `exact_steps`."""
        return self.encoders + self.clip + frames * self.frame + self.exact_steps(windows, guided)

    def plain_clip(self, plan: WindowPlan) -> int:
        """The release's order."""
        steps, windows = plan.index.shape[:2]
        return self.encoders + steps * windows * self.plain
