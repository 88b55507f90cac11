"""Training configuration: plain values in a locked ConfigDict, built by stage; no JAX here.

The files of `configs/` call `base_config` and change values; arguments after a colon combine:
`stage2.py:released,smoke`.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.records import nearest
from realisdance_jax.utils.tree import NO_GRADIENT

ABLATIONS = ("no_gate", "no_hamer", "no_pose_motion", "no_shuffle")
VARIANTS = ("released", "dancer", *ABLATIONS, "smoke")
"""In the order in which they are applied, whatever the order in which they are given."""


def _model(motion: bool) -> ConfigDict:
    return ConfigDict(
        {
            "unet": {
                "in_channels": 4,
                "out_channels": 4,
                "widths": (320, 640, 1280, 1280),
                "layers_per_block": 2,
                "attention_levels": (True, True, True, False),
                "heads": (8, 8, 8, 8),
                "context_dim": 768,
                "norm_groups": 32,
            },
            "pose": {
                "conditions": ("dwpose", "hamer", "smpl"),
                "encoder_widths": (16, 32, 96, 256),
                "gate_width": 128,
                "kind": "gated",
                "motion": True,
            },
            "dino": {
                "width": 1024,
                "layers": 24,
                "heads": 16,
                "mlp_ratio": 4,
                "patch": 14,
                "table_size": 37,
                "norm_eps": 1e-6,
            },
            "vae": {
                "widths": (128, 256, 512, 512),
                "layers_per_block": 2,
                "latent_channels": 4,
                "norm_groups": 32,
                "scaling": 0.18215,
            },
            "motion": {"heads": 8, "attentions": 2, "max_frames": 32} if motion else None,
            "reference_blocks": "full",
        }
    )


def _trainable(stage: int) -> tuple[tuple[str, str], ...]:
    """(pattern, train or frozen) over parameter paths; first match wins, every leaf must match."""
    if stage == 2:
        return ((r"^params/.*motion_modules\.", "train"), (r"", "frozen"))
    return ((NO_GRADIENT, "frozen"), (r"^params/", "train"))


def base_config(stage: int) -> ConfigDict:
    """Defaults after the paper (section 3) with the release's batch and steps; stage 1 or 2."""
    motion = stage == 2
    config = ConfigDict(
        {
            "stage": stage,
            "seed": 0,
            "model": _model(motion),
            "schedule": {"zero_snr": True, "prediction": "v_prediction"},
            "data": {
                "sources": ("synthetic",),
                "weights": (),
                "split": "train",
                "hamer_root": "",
                "smpl_root": "",
                "batch": 8 if motion else 40,
                "frames": 16 if motion else 1,
                "stride": 4,
                "size": (768, 576),
                "conditions": ("dwpose", "hamer", "smpl"),
                "reference": "random",
                "start": placeholder(int),
                "fixed_gap": False,
                "crop_scale": (1.0, 1.0),
                "crop_ratio": placeholder(tuple),
                "flip": 0.0,
                "shuffle": True,
                "max_unreadable": 0.05,
                "synthetic_clips": 64,
                "synthetic_frames": 64,
                "corruption": (0.0, 0.0, 0.0),
                "corruption_seed": 0,
            },
            "loss": {
                "snr_gamma": 5.0,
                "weighting": "min_snr",
                "drop": 1e-2,
                "shuffle": 5e-2 if motion else 0.0,
                "shuffle_rule": "swap",
                "least_timestep": 0,
            },
            "optim": {
                "name": "adamw",
                "lr": 5e-5,
                "schedule": "constant",
                "warmup_steps": 0,
                "b1": 0.9,
                "b2": 0.999,
                "eps": 1e-8,
                "weight_decay": 1e-2,
                "clip_norm": 1.0,
                "accumulate": 1,
                "ema": placeholder(float),
            },
            "train": {
                "steps": 100_000 if motion else 200_000,
                "workers": 2,
                "trainable": _trainable(stage),
                "dtype": "bfloat16",
                "remat": "blocks",
                "attention": "auto",
                "save_every": 1000,
                "keep": 3,
                "log_every": 50,
                "preview_every": 5000,
                "preview_steps": 25,
            },
            "mesh": {"data": -1, "fsdp": 1, "frames": 1, "tensor": 1},
        }
    )
    return config


def baseline_config(argument: str) -> ConfigDict:
    """Animate Anyone as the paper compares with it, of the stage that `argument` names, locked.

    argument: `stage1` (the default) or `stage2`, and variants. DWPose alone goes through one
    embedding, added once; no gate, no motion modules in it, no pose shuffle; all else is equal.
    """
    names = [name for name in (argument or "").split(",") if name]
    stages = [name for name in names if name in ("stage1", "stage2")]
    if len(stages) > 1:
        raise UserError(f"config: expected one of stage1 and stage2, found {','.join(stages)}")
    config: Any = base_config(2 if stages == ["stage2"] else 1)
    config.model.pose.update({"kind": "embedding", "conditions": ("dwpose",)})
    config.data.conditions = ("dwpose",)
    config.loss.shuffle = 0.0
    return apply_variants(config, ",".join(name for name in names if name not in stages))


def parse_variants(argument: str) -> tuple[str, ...]:
    """Names of a comma-separated config argument; unknown ones raise with the nearest name."""
    names = tuple(name for name in (argument or "").split(",") if name)
    for name in names:
        if name not in VARIANTS:
            raise UserError(
                f"config: expected {', '.join(VARIANTS[:-1])} or {VARIANTS[-1]} after the colon, "
                f"found {name!r}{nearest(name, VARIANTS)}"
            )
    return tuple(name for name in VARIANTS if name in names)


def apply_variants(config: Any, argument: str) -> ConfigDict:
    """Change values as `argument` says, and lock.

    `released`: the authors' rates. `dancer`: the small model of the dancer world. `no_...`: the
    model without one of its ideas. `smoke`: anything shrunk to a laptop minute.
    """
    for name in parse_variants(argument):
        if name == "released":
            config.optim.lr, config.optim.warmup_steps = 1e-5, 5000
            config.loss.drop, config.loss.shuffle_rule = 0.0, "copy"
        elif name == "dancer":
            _dance(config)
        elif name == "smoke":
            _shrink(config)
        else:
            _ablate(config, name)
    return config.lock()


def _ablate(config: Any, name: str) -> None:
    if config.model.pose.kind == "embedding":
        raise UserError(f"config: {name}: expected a model with gating, found the baseline")
    if name == "no_gate":
        config.model.pose.kind = "ungated"
    elif name == "no_hamer":
        config.model.pose.conditions = config.data.conditions = ("dwpose", "smpl")
    elif name == "no_pose_motion":
        config.model.pose.motion = False
    else:
        config.loss.shuffle = 0.0


def _dance(config: Any) -> None:
    """Every part small enough that all of them are at most 12 MB in half precision."""
    motion = config.stage == 2
    unet = {"widths": (64, 64), "heads": (2, 2), "attention_levels": (True, True)}
    unet |= {"layers_per_block": 1, "context_dim": 48, "norm_groups": 16}
    config.model.unet.update(unet | {"in_channels": 16, "out_channels": 16})
    config.model.pose.update({"encoder_widths": (8, 16, 24, 32), "gate_width": 12})
    config.model.dino.update({"width": 64, "layers": 3, "heads": 4, "table_size": 9})
    vae = {"widths": (16, 24, 48, 64), "layers_per_block": 1, "latent_channels": 16}
    config.model.vae.update(vae | {"norm_groups": 8})
    if motion:
        config.model.motion.heads = 2
    config.data.update({"sources": ("dancer",), "size": (128, 96), "stride": 2})
    config.data.update({"batch": 8 if motion else 64, "synthetic_clips": 2048})
    config.data.corruption = (0.2, 0.2, 0.2)
    config.loss.update({"drop": 5e-2, "weighting": "min_snr_plus_one"})
    config.optim.update({"lr": 4e-4, "warmup_steps": 500, "ema": 0.999})
    config.train.update({"steps": 30_000 if motion else 40_000, "dtype": "float32"})
    config.train.update({"remat": "none", "preview_every": 0})


def _shrink(config: Any) -> None:
    widths = (32, 32, 64, 64)[: len(config.model.unet.widths)]
    config.model.unet.update({"widths": widths, "context_dim": 32})
    config.model.pose.update({"encoder_widths": (8, 8, 16, 24), "gate_width": 12})
    config.model.dino.update({"width": 48, "layers": 2, "heads": 4, "table_size": 5})
    config.model.vae.update({"widths": (32, 32, 32, 32)})
    config.data.update({"size": (64, 48), "frames": min(config.data.frames, 4), "batch": 8})
    config.data.update({"synthetic_clips": 8, "synthetic_frames": 16})
    config.optim.warmup_steps = min(config.optim.warmup_steps, 2)
    config.train.update({"steps": 10, "workers": 0, "dtype": "float32"})
    config.train.update({"save_every": 5, "log_every": 1})
    config.train.update({"remat": "none", "preview_every": 0, "preview_steps": 4})
