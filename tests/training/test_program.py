"""The whole train step as a program: what is sharded, what it costs, what it lowers to."""

import dataclasses
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from realisdance_jax.checkpoints.variables import ALL_COMPONENTS, boxed_component
from realisdance_jax.models.config import RealisDanceConfig
from realisdance_jax.models.jaxpr_flops import count, total
from realisdance_jax.parallel.rules import ACTIVATION_RULES, LOGICAL_AXES
from realisdance_jax.parallel.shard import SMALL as WHOLE
from realisdance_jax.planning.programs import sample_program
from realisdance_jax.planning.report import shard_bytes, whole_bytes
from realisdance_jax.training.program import batch_shapes, make_program, plain
from realisdance_jax.training.recipe import Recipe
from realisdance_jax.training.work import step_flops
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.tree import unflatten
from tests.refusals import refusal

CONFIGS = Path(__file__).parents[2] / "configs"


def recipe(stage: int, argument: str = "", **mesh: int) -> Recipe:
    spec = importlib.util.spec_from_file_location("config", CONFIGS / f"stage{stage}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(argument)
    config.mesh.update(mesh)
    return Recipe.of(config)


@pytest.fixture(scope="module")
def full():
    """Stage 2 at full size from cached latents, on one device, nothing recomputed."""
    whole = recipe(2, data=1)
    train = dataclasses.replace(whole.train, remat="none", attention="xla")
    whole = dataclasses.replace(whole, train=train)
    return make_program(whole, jax.devices()[:1], cached=True)


def test_frozen_is_free(full):
    """FLOPs of a step against the forward pass of what trains; moments of what trains only."""
    step = step_flops(full, cached=True)
    model, b, f = full.networks.model, full.recipe.data.batch, full.recipe.data.frames
    batch = batch_shapes(full, cached=True)
    variables = jax.eval_shape(lambda s: loss_variables(full, s), full.state)

    def forward(variables, latents, t, tokens, reference, conditions):
        context = model.apply(variables, tokens, method="project")
        features = model.apply(variables, reference, context, method="encode_reference")
        kv = model.apply(variables, features, method="reference_kv")
        pose = model.apply(variables, conditions, method="encode_pose")[0]
        pose = model.apply(variables, pose, method="guide")
        return model.apply(variables, latents, t, context, pose, kv, method="denoise")

    latent = batch["latent_mean"]
    found, _ = count(
        forward,
        variables,
        jax.ShapeDtypeStruct(latent.shape, jnp.float32),
        jax.ShapeDtypeStruct((b,), jnp.int32),
        batch["tokens"],
        batch["reference_mean"],
        jax.ShapeDtypeStruct(batch["conditions"].shape, jnp.float32),
    )
    trained = [op for op in found if op.component in ("unet_main", "pose_guider")]
    assert f == 16
    assert step <= 2.6 * total(trained)
    moments = whole_bytes(full.state.opt_state) - 4  # Adam's own count
    assert abs(moments - 2 * whole_bytes(full.state.trainable)) <= 8


def loss_variables(program, state):
    return unflatten({**program.frozen.model, **state.trainable})


@pytest.mark.parametrize(("stage", "rule"), [(1, "adamw"), (2, "adamw"), (2, "muon")])
def test_shards_are_small(stage, rule):
    """On 8 devices each holds little more than an eighth of parameters and moments."""
    whole = recipe(stage, data=1, fsdp=8)
    optim = dataclasses.replace(whole.optim, name=rule)
    program = make_program(dataclasses.replace(whole, optim=optim))
    for part in (program.state, program.frozen):
        assert shard_bytes(part) < 1.08 * whole_bytes(part) / 8
    for path, leaf in {**program.state.trainable, **program.frozen.model}.items():
        if leaf.size >= WHOLE and min(leaf.shape[-2:]) % 8 == 0 and "pe" not in path:
            assert "fsdp" in str(leaf.sharding.spec), path


def test_every_axis_name_has_a_rule():
    """In full-size models of both stages; `None` marks an axis of size 1 or a table."""
    config = RealisDanceConfig(motion=recipe(2).model.motion)
    names = set()
    for component in ALL_COMPONENTS:
        boxed = boxed_component(config, component)
        leaves = jax.tree.leaves(boxed, is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned))
        names |= {n for x in leaves if isinstance(x, nn.LogicallyPartitioned) for n in x.names}
    assert names - {None} <= set(LOGICAL_AXES)
    assert set(ACTIVATION_RULES) == {"batch", "frames", "pixels", "heads"}


SMALL_MODEL = {
    "unet": {
        "widths": (8, 16),
        "layers_per_block": 1,
        "attention_levels": (True, False),
        "heads": (2, 4),
        "context_dim": 6,
        "norm_groups": 4,
    },
    "pose": {"encoder_widths": (2, 3, 4, 5), "gate_width": 3},
    "dino": {"width": 8, "layers": 1, "heads": 2, "table_size": 3},
    "vae": {"widths": (4, 4, 4, 4), "layers_per_block": 1, "norm_groups": 4},
}


def tiny(stage: int, **mesh: int) -> Recipe:
    spec = importlib.util.spec_from_file_location("config", CONFIGS / f"stage{stage}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config("smoke")
    for part, values in SMALL_MODEL.items():
        config.model[part].update(values)
    if stage == 2:
        config.model.motion.heads = 2
    config.data.update({"size": (32, 32), "frames": 2 if stage == 2 else 1})
    config.train.remat = "blocks"
    config.mesh.update(mesh)
    return Recipe.of(config)


@pytest.fixture(scope="module")
def tiny_program():
    return make_program(tiny(2, data=2, fsdp=2, frames=2))


def test_constraints_are_in_the_program(tiny_program):
    """Examples and, in spatial layers, frames."""
    batch = batch_shapes(tiny_program, cached=False)
    compiled = tiny_program.compiled()
    text = compiled.lower(tiny_program.state, tiny_program.frozen, batch).as_text()
    constraints = [line for line in text.splitlines() if "sdy.sharding_constraint" in line]
    five = [line for line in constraints if '[{"data", "fsdp"}, {"frames"}, ' in line]
    assert len(five) >= 10
    assert "stablehlo.custom_call @Sharding" not in text


def test_float32_is_not_rounded_in_products(tiny_program):
    """Of the trained networks, of DINOv2 and of the VAE, forward and backward."""
    batch = batch_shapes(tiny_program, False)
    traced = jax.make_jaxpr(tiny_program.step)(tiny_program.state, tiny_program.frozen, batch)
    found = str(traced).replace("precision=None", "ROUNDED")
    products = [line for line in found.splitlines() if "dot_general[" in line]
    assert len(products) > 10
    assert found.count("Precision.HIGHEST") > 100
    assert "ROUNDED" not in found


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_the_step_exports(platform):
    """For one device of a platform that is not here."""
    program = make_program(tiny(2, data=1), jax.devices()[:1])
    batch = batch_shapes(program, cached=False)
    jitted = jax.jit(program.step)
    bare = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (program.state, program.frozen, batch)
    )
    exported = jax.export.export(jitted, platforms=[platform])(*bare)
    assert exported.platforms == (platform,)
    assert len(exported.mlir_module_serialized) > 10_000


def test_mesh_and_batch_must_fit():
    with pytest.raises(UserError, match="data x fsdp = 8"):
        make_program(dataclasses.replace(tiny(2, data=-1), data=_batch(tiny(2), 6)))
    with pytest.raises(UserError, match="make 8 devices"):
        make_program(tiny(2, data=3))
    for mesh in ({"data": 2, "frames": 4}, {"data": 2, "frames": -1}):
        text = refusal(make_program, tiny(2, **mesh))
        assert text == "mesh: expected frames to divide data.frames = 2, found 4"
    text = refusal(sample_program, tiny(2, data=2, frames=4), jax.devices(), 2)
    assert text == "mesh: expected frames to divide data.frames = 2, found 4"


def test_work_is_counted_where_there_is_no_cpu(tiny_program, monkeypatch):
    """As with JAX_PLATFORMS=cuda: on a device of the program."""

    def refuse(*platform: str) -> list:
        raise RuntimeError(f"Unknown backend {platform}")

    monkeypatch.setattr(jax, "devices", refuse)
    counted = plain(tiny_program)
    assert list(counted.mesh.devices.flat) == list(tiny_program.mesh.devices.flat[:1])


def _batch(of: Recipe, size: int):
    return dataclasses.replace(of.data, batch=size)
