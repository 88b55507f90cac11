"""Parts fed with the official code's own intermediates: quick to compile, and blind to each other.

The mutants of test_mutants.py are tried on these.
"""

import jax
import jax.numpy as jnp
import numpy as np

from realisdance_jax.checkpoints.convert.engine import key_table
from realisdance_jax.checkpoints.variables import abstract_component
from realisdance_jax.models.realisdance import RealisDance
from realisdance_jax.models.resnet import ResnetBlock
from realisdance_jax.models.transformer import SpatialTransformer
from tests import oracle
from tests.parity.report import FORWARD, Table, clip, images

BANK = "ref_bank_t0."
BLOCK = "unet_main.down_blocks.0"


def weights(stage: int, prefix: str, damped: bool = False) -> dict:
    """The variables whose official names start with `prefix`."""
    component = prefix.partition(".")[0]
    table = key_table(abstract_component(oracle.config(stage), component))
    chosen = {name: leaf for name, leaf in table.items() if name.startswith(prefix)}
    return oracle.variables(chosen, damped=damped)


def first(name: str) -> np.ndarray:
    """The first example of a stage-1 array."""
    return oracle.arrays("stage1")[name][:1]


def main_block(name: str) -> np.ndarray:
    """Output of a block of the main UNet, from reference features, pose addends and tokens.

    Only what the block depends on is compiled.
    """
    model, inputs = RealisDance(oracle.config(1)), oracle.arrays("inputs")
    names = [key for key in oracle.arrays("stage1") if key.startswith(BANK)]
    features = {key.removeprefix(BANK): jnp.asarray(first(key)) for key in names}
    assert len(features) == 16

    def is_wanted(module, method):
        return module.name == name and method == "__call__"

    @jax.jit
    def run(variables, features, *args):
        kv = model.apply(variables, features, method="reference_kv")
        kept = {"capture_intermediates": is_wanted, "mutable": ["intermediates"]}
        _, seen = model.apply(variables, *args, kv, method="denoise", **kept)
        return seen["intermediates"]["unet_main"][name]["__call__"][0][0]

    sample, t = (inputs[f"s1.{key}"][:1] for key in ("sample", "timestep"))
    pose = tuple(jnp.asarray(clip(first(f"pg_out_{i}"))) for i in range(5))
    context = jnp.asarray(first("clip_projector_out"))
    args = (jnp.asarray(clip(sample)), jnp.asarray(t, jnp.int32), context, pose)
    return images(run(weights(1, "unet_main."), features, *args))


def test_first_block_of_the_main_unet(record_property):
    """Its transformers read the reference, each its own (H3, H24)."""
    table, name = Table(record_property, "stage1", FORWARD), "main_down_blocks.0"
    out = main_block(name.removeprefix("main_"))
    table.row(f"{name} from official parts", out, first(name))
    table.verify()


def test_first_up_block_of_the_main_unet(record_property):
    """It has no transformers, but skips that carry the pose (H1)."""
    table, name = Table(record_property, "stage1", FORWARD), "main_up_blocks.0"
    out = main_block(name.removeprefix("main_"))
    table.row(f"{name} from official parts", out, first(name))
    table.verify()


def test_transformer(record_property):
    """One transformer without reference (H19: exact GELU)."""
    table, official = Table(record_property, "stage1", FORWARD), oracle.arrays("stage1")
    params = weights(1, f"{BLOCK}.attentions.0.")["params"]["unet_main"]["down_blocks.0"]
    transformer = jax.jit(SpatialTransformer(32, 8, 32, "unit").apply)
    x, context = clip(official["unit_in"]), jnp.asarray(official["clip_projector_out"])
    out = images(transformer({"params": params["attentions.0"]}, x, context)[0])
    table.row("unit_transformer_out from official tokens", out, official["unit_transformer_out"])
    table.verify()


def test_resnet_of_frames(record_property):
    """Statistics over all frames of a clip (H2)."""
    table, official = Table(record_property, "stage2", FORWARD), oracle.arrays("stage2")
    params = weights(2, f"{BLOCK}.resnets.0.")["params"]["unet_main"]["down_blocks.0"]
    resnet, x = ResnetBlock(32, 32), clip(official["unit_in"])
    out = jax.jit(resnet.apply)({"params": params["resnets.0"]}, x, official["unit_temb"])
    table.row("unit_resnet_out alone", images(out), official["unit_resnet_out"])
    table.verify()


def test_damped_unet(record_property):
    """A whole UNet on weights under which every wrong epsilon shows (H8)."""
    table = Table(record_property, "damped", FORWARD)
    model, inputs = RealisDance(oracle.config(1)), oracle.arrays("inputs")
    official = oracle.arrays("damped")

    @jax.jit
    def run(variables, *args):
        return model.apply(variables, *args, method=lambda m, *a: m.unet_ref(*a)[0])

    picture = jnp.asarray(clip(inputs["s1.ref_sample"]))
    t = jnp.asarray(inputs["s1.timestep"], jnp.int32)
    context = jnp.asarray(official["stage1_clip_projector_out"])
    out = run(weights(1, "unet_ref.", damped=True), picture, t, context)
    table.row("ref_out_t from official tokens", images(out), official["ref_out_t"])
    table.verify()
