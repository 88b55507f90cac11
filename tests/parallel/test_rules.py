"""Every parameter of the full-size model carries axis names, and every name has one rule."""

import functools

import flax.linen as nn
import jax
from flax import traverse_util

from realisdance_jax.checkpoints.variables import init_component, init_model
from realisdance_jax.models.config import MotionConfig, RealisDanceConfig
from realisdance_jax.parallel.mesh import MESH_AXES, make_mesh
from realisdance_jax.parallel.rules import LOGICAL_AXES, RULES

FULL = RealisDanceConfig(motion=MotionConfig())


@functools.cache
def parameters() -> dict:
    """Abstract boxed parameters of the released stage-2 model and its image encoder."""
    key = jax.random.key(0)
    model = jax.eval_shape(lambda: init_model(FULL, key))["params"]
    encoder = jax.eval_shape(lambda: init_component(FULL, "image_encoder", key))["params"]
    return {**model, "image_encoder": encoder}


def flat(tree: dict) -> dict:
    return {".".join(path): leaf for path, leaf in traverse_util.flatten_dict(tree).items()}


def test_every_parameter_is_named_by_known_axes():
    boxes = flat(parameters())
    assert len(boxes) == 2128 - 50 + 439  # stage-2 names but for `pe`, and DINOv2-large's
    for path, box in boxes.items():
        assert isinstance(box, nn.LogicallyPartitioned), path
        assert len(box.names) == box.value.ndim, path
        sizes = zip(box.names, box.value.shape, strict=True)
        assert all(name in LOGICAL_AXES or (name is None and n == 1) for name, n in sizes), path


def test_rules_are_unique_used_and_of_the_mesh():
    assert len(set(LOGICAL_AXES)) == len(RULES)
    assert {axis for _, axis in RULES} <= {*MESH_AXES, None}
    used = {name for box in flat(parameters()).values() for name in box.names}
    assert used - {None} == set(LOGICAL_AXES)


def test_large_kernels_are_cut_along_both_axes():
    """Specs of layers of every kind, and no mesh axis serves an array twice."""
    mesh = make_mesh({"data": 1, "fsdp": 4, "tensor": 2})
    specs = nn.get_partition_spec(parameters())
    shardings = flat(nn.logical_to_mesh_sharding(specs, mesh, RULES))
    for path, sharding in shardings.items():
        axes = [axis for axis in sharding.spec if axis is not None]
        assert len(axes) == len(set(axes)), (path, sharding.spec)
    block = "unet_main.down_blocks.1.attentions.0.transformer_blocks.0"
    expected = {
        f"{block}.attn1.to_q.kernel": ("fsdp", "tensor"),
        f"{block}.attn1.to_out.0.kernel": ("tensor", "fsdp"),
        f"{block}.ff.net.0.proj.kernel": ("fsdp", "tensor"),
        f"{block}.ff.net.2.kernel": ("tensor", "fsdp"),
        f"{block}.norm1.scale": (None,),
        "unet_main.time_embedding.linear_2.kernel": ("fsdp", None),
        "unet_main.down_blocks.1.resnets.0.time_emb_proj.kernel": ("fsdp", "tensor"),
        "unet_main.down_blocks.1.resnets.0.conv1.kernel": (None, None, "fsdp", "tensor"),
        "clip_projector.post_proj.kernel": ("fsdp", "tensor"),
    }
    found = {name: tuple(shardings[name].spec) for name in expected}
    assert found == expected
