"""The baseline and the ablations: what their parameter trees lack, and what they compute."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from realisdance_jax.checkpoints.convert.components import model_table
from realisdance_jax.checkpoints.convert.infer import pose_config
from realisdance_jax.checkpoints.variables import abstract_component
from realisdance_jax.models.config import PoseGuiderConfig
from tests.models import tiny

OURS = tiny.config()
UNGATED, STILL, EMBEDDING, HANDLESS = (
    tiny.config(pose=dataclasses.replace(tiny.POSE, **change))
    for change in (
        {"kind": "ungated"},
        {"motion": False},
        {"kind": "embedding", "conditions": ("dwpose",)},
        {"conditions": ("dwpose", "smpl")},
    )
)


def leaves(config, component: str) -> dict[str, tuple[int, ...]]:
    tree = dict(abstract_component(config, component))
    return {k: x.shape for k, x in traverse_util.flatten_dict(tree, sep="/").items()}


def test_ablations_lack_just_what_they_say():
    ours = leaves(OURS, "pose_guider")
    assert ours.items() - leaves(UNGATED, "pose_guider").items() == {
        item for item in ours.items() if "/gate_module/" in item[0]
    }
    assert ours.items() - leaves(STILL, "pose_guider").items() == {
        item for item in ours.items() if "motion_modules." in item[0]
    }
    for less in (UNGATED, STILL):
        assert leaves(less, "pose_guider").items() < ours.items()
    assert leaves(HANDLESS, "pose_guider").keys() == ours.keys()
    for other in (UNGATED, STILL, EMBEDDING, HANDLESS):
        for component in ("unet_ref", "unet_main", "clip_projector"):
            assert leaves(other, component) == leaves(OURS, component)


def test_the_embedding_is_six_convolutions_between_two():
    found = leaves(EMBEDDING, "pose_guider")
    kernels = {k.split("/", 2)[2]: shape for k, shape in found.items() if k.endswith("/kernel")}
    a, b, c, d = tiny.POSE.encoder_widths
    assert kernels == {
        "backbone/conv_in/kernel": (3, 3, 3, a),
        **{
            f"backbone/blocks.{i}/kernel": (3, 3, *widths)
            for i, widths in enumerate([(a, a), (a, b), (b, b), (b, c), (c, c), (c, d)])
        },
        "conv_out/kernel": (3, 3, d, OURS.unet.widths[0]),
    }


def poses(config, seed: int = 3) -> jax.Array:
    shape = (1, 2, 32, 32, 3 * len(config.pose.conditions))
    return jnp.asarray(np.random.default_rng(seed).random(shape, np.float32))


@pytest.mark.parametrize("config", [UNGATED, EMBEDDING])
def test_without_a_gate_every_weight_is_one(config):
    variables = tiny.variables(config)
    features, gates = tiny.bound(config, "encode_pose")(variables, poses(config))
    assert gates.shape == (*features.shape[:-1], len(config.pose.conditions))
    np.testing.assert_array_equal(gates, 1)
    addends = tiny.bound(config, "guide")(variables, features)
    assert len(addends) == (1 if config is EMBEDDING else 1 + len(config.unet.widths))


def test_an_ungated_guider_is_a_gated_one_whose_gate_is_open():
    variables = jax.tree.map(lambda x: x, tiny.variables(OURS))
    guider = variables["params"]["pose_guider"]
    last = guider["gate_module"]["gate_layer.2"]
    opened = {"kernel": jnp.zeros_like(last["kernel"]), "bias": jnp.full_like(last["bias"], 40)}
    less = {name: x for name, x in guider.items() if name != "gate_module"}
    guider = guider | {"gate_module": guider["gate_module"] | {"gate_layer.2": opened}}
    given = poses(OURS)
    params = variables["params"]

    def encoded(config, parts: dict) -> jax.Array:
        tree = variables | {"params": params | {"pose_guider": parts}}
        return tiny.bound(config, "encode_pose")(tree, given)[0]

    np.testing.assert_allclose(encoded(UNGATED, less), encoded(OURS, guider), rtol=1e-5)


def test_only_motion_modules_let_frames_of_poses_see_each_other():
    for config, alone in ((OURS, False), (STILL, True), (EMBEDDING, True)):
        variables = tiny.variables(config)
        one = poses(config)
        other = one.at[:, 1].set(0)
        encode, guide = tiny.bound(config, "encode_pose"), tiny.bound(config, "guide")
        a, b = (guide(variables, encode(variables, x)[0])[0][0, 0] for x in (one, other))
        assert np.array_equal(a, b) == alone


@pytest.mark.parametrize("config", [OURS, UNGATED, EMBEDDING])
def test_kinds_are_read_off_official_names(config):
    tables = model_table(config)
    shapes = {
        name.removeprefix("pose_guider."): leaf.torch_shape
        for name, leaf in tables.items()
        if name.startswith("pose_guider.")
    }
    assert pose_config(shapes, "x") == dataclasses.replace(
        config.pose, gate_width=PoseGuiderConfig().gate_width if config != OURS else 3
    )
