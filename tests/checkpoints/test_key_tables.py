"""Every name of the full-size checkpoints is a leaf of the full-size model, exactly once."""

import math
from collections.abc import Mapping

import jax
import numpy as np
import pytest
from flax import traverse_util

from realisdance_jax.checkpoints.convert import infer
from realisdance_jax.checkpoints.convert.components import (
    Table,
    dino_table,
    is_buffer,
    is_motion,
    model_table,
    unet_table,
    vae_table,
    without_prefix,
)
from realisdance_jax.checkpoints.convert.engine import Leaf, fill, key_table, mismatches
from realisdance_jax.checkpoints.convert.legacy_names import MM_V2_HOMELESS
from realisdance_jax.checkpoints.variables import abstract_component
from realisdance_jax.models.config import (
    DinoConfig,
    MotionConfig,
    RealisDanceConfig,
    UNetConfig,
    VAEConfig,
)
from realisdance_jax.models.realisdance import COMPONENTS
from realisdance_jax.utils.torch_files.lazy import LazyTensor
from tests.golden_files import load_keys

STAGE1, STAGE2 = RealisDanceConfig(), RealisDanceConfig(motion=MotionConfig())


def motion_table() -> Table:
    """What mm_v2 fills: the motion modules of the main UNet, by its names."""
    main = without_prefix(model_table(STAGE2), "unet_main.")
    return {name: leaf for name, leaf in main.items() if is_motion(name)}


CASES = {
    "stage1": lambda: (model_table(STAGE1), [(STAGE1, part) for part in COMPONENTS]),
    "stage2": lambda: (model_table(STAGE2), [(STAGE2, part) for part in COMPONENTS]),
    "sd15_unet": lambda: (unet_table(UNetConfig()), [(STAGE1, "unet_ref")]),
    "sd_vae": lambda: (vae_table(VAEConfig()), [(STAGE1, "vae")]),
    "dinov2_large": lambda: (dino_table(DinoConfig()), [(STAGE1, "image_encoder")]),
}


def lazily(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, LazyTensor]:
    """Tensors that must not be read."""
    return {name: LazyTensor(s, np.dtype(np.float32), lambda: 1 / 0) for name, s in shapes.items()}


def jax_shape(leaf: Leaf) -> tuple[int, ...]:
    """Shape of the leaf that a tensor of the leaf's PyTorch shape becomes."""
    return leaf.to_jax(np.broadcast_to(np.float32(0), leaf.torch_shape)).shape


@pytest.mark.parametrize("name", CASES)
def test_names_and_leaves_match_exactly_once_both_ways(name):
    keys, (table, components) = load_keys(name), CASES[name]()
    assert mismatches(table, lazily(keys)) == []
    assert table.keys() == keys.keys()
    leaves = {
        path: leaf.shape
        for config, part in components
        for path, leaf in traverse_util.flatten_dict(dict(abstract_component(config, part))).items()
    }
    paths = [leaf.path for leaf in table.values()]
    assert len(paths) == len(set(paths)) == len(keys)
    assert set(paths) == leaves.keys()
    for key, leaf in table.items():
        expected = (
            keys[key] if leaf.axes is None else tuple(keys[key][i] for i in np.argsort(leaf.axes))
        )
        assert leaves[leaf.path] == expected, key


def test_mm_v2_fills_the_motion_modules_but_for_the_homeless():
    keys, table = load_keys("animatediff_mm_v2"), motion_table()
    assert len(keys) == 588
    assert len(table) == 560
    homed = {name: shape for name, shape in keys.items() if name not in MM_V2_HOMELESS}
    assert mismatches(table, lazily(homed)) == []
    assert len(mismatches(table, lazily(keys))) == 28


def test_counts_are_those_of_the_release():
    table = model_table(STAGE2)
    buffers = [name for name, leaf in table.items() if is_buffer(leaf)]
    motion = [name for name, leaf in table.items() if is_motion(name) and not is_buffer(leaf)]
    assert len(buffers) == 50
    assert all(name.endswith("pos_encoder.pe") for name in buffers)
    assert len(motion) == 650
    assert sum(math.prod(table[name].torch_shape) for name in motion) == 502_824_640
    parameters = (leaf for leaf in table.values() if not is_buffer(leaf))
    assert sum(math.prod(leaf.torch_shape) for leaf in parameters) == 2_294_098_811


@pytest.mark.parametrize(("name", "config"), [("stage1", STAGE1), ("stage2", STAGE2)])
def test_configurations_are_read_off_the_shapes(name, config):
    tensors = lazily(load_keys(name))
    assert infer.model_config(tensors, {}, "f") == config
    assert infer.dino_config(load_keys("dinov2_large"), {}, "f") == DinoConfig()
    assert infer.vae_config(load_keys("sd_vae"), {}, "f") == VAEConfig()
    assert infer.unet_config(load_keys("sd15_unet"), {}, "f") == UNetConfig()


def test_values_survive_both_directions():
    variables = {
        "params": {
            "a.b": {"kernel": np.arange(6.0, dtype=np.float32).reshape(2, 3)},
            "c": {"kernel": np.arange(120.0, dtype=np.float32).reshape(3, 2, 4, 5)},
            "norm": {"scale": np.ones(3, np.float32), "bias": np.zeros(3, np.float32)},
        },
        "buffers": {"d.0": {"pe": np.ones((1, 2, 3), np.float32)}},
    }
    table, flat = key_table(variables), traverse_util.flatten_dict(variables)
    shapes = {name: leaf.torch_shape for name, leaf in table.items()}
    assert shapes == {
        "a.b.weight": (3, 2),
        "c.weight": (5, 4, 3, 2),
        **{"norm.weight": (3,), "norm.bias": (3,), "d.0.pe": (1, 2, 3)},
    }
    torch = {name: leaf.to_torch(flat[leaf.path]) for name, leaf in table.items()}
    assert torch["c.weight"][4, 3, 2, 1] == variables["params"]["c"]["kernel"][2, 1, 3, 4]
    assert torch["a.b.weight"].flags.c_contiguous
    back = fill(table, torch.__getitem__)
    assert jax.tree.structure(back) == jax.tree.structure(variables)
    assert jax.tree.all(jax.tree.map(np.array_equal, back, variables))


def test_two_leaves_of_one_name_are_a_bug():
    leaf = np.zeros(2, np.float32)
    with pytest.raises(ValueError, match=r"a\.weight: claimed by"):
        key_table({"params": {"a": {"scale": leaf}, "a.weight": leaf}})
