"""Variants that begin with the whole model's weights compute what it does, as far as they can."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.branch import write_branch
from realisdance_jax.checkpoints.random_weights import write_random_weights
from realisdance_jax.checkpoints.weights import load_component, read_manifest
from realisdance_jax.config import apply_variants, base_config
from realisdance_jax.models.pose_embedding import make_pose_guider
from realisdance_jax.training.recipe import Recipe
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.tree import flatten, unflatten


def recipe_of(*variants: str) -> Recipe:
    return Recipe.of(apply_variants(base_config(1), ",".join(("dancer", "smoke", *variants))))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("branch") / "whole"
    write_random_weights(folder, recipe_of().model)
    return folder


def branch(source, target, *variants: str) -> tuple[Recipe, dict]:
    recipe = recipe_of(*variants)
    write_branch(source, target, recipe)
    return recipe, leaves(target, "pose_guider")


def leaves(folder, component: str) -> dict:
    flat = flatten(load_component(folder, read_manifest(folder), component))
    return {path: np.array(leaf) for path, leaf in flat.items()}


def encoded(recipe: Recipe, flat: dict, pictures: np.ndarray) -> np.ndarray:
    model = recipe.model
    guider = make_pose_guider(model.pose, model.unet.widths, model.unet.norm_groups)
    features, _ = guider.apply(
        jax.tree.map(jnp.asarray, unflatten({f"params/{p}": x for p, x in bare(flat).items()})),
        jnp.asarray(pictures),
        method="encode",
    )
    return np.asarray(features)


def bare(flat: dict) -> dict:
    return {path.removeprefix("params/pose_guider/"): leaf for path, leaf in flat.items()}


def test_without_a_condition_is_as_with_one_that_is_not_merged(source, tmp_path):
    """Encoders of the others are the same ones, and so is the way they are merged."""
    ungated, whole = branch(source, tmp_path / "ungated", "no_gate")
    both, fewer = branch(source, tmp_path / "fewer", "no_gate", "no_hamer")
    assert both.model.pose.conditions == ("dwpose", "smpl")
    merge = "params/pose_guider/blocks_0.0/kernel"
    width = whole[merge].shape[2] // 3
    whole[merge][:, :, width : 2 * width] = 0
    pictures = np.random.default_rng(0).random((1, 1, 32, 24, 9), np.float32)
    seen = pictures[..., [0, 1, 2, 6, 7, 8]]
    expected, found = encoded(ungated, whole, pictures), encoded(both, fewer, seen)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.ptp(found) > 1e-3


def test_only_the_gate_is_new(source, tmp_path):
    before = leaves(source, "pose_guider")
    _, after = branch(source, tmp_path / "ours")
    changed = {path for path in before if not np.array_equal(before[path], after[path])}
    assert changed == {path for path in before if "/gate_module/" in path}
    for name in ("unet_main", "unet_ref", "vae", "image_encoder"):
        old, new = leaves(source, name), leaves(tmp_path / "ours", name)
        assert all(np.array_equal(old[path], new[path]) for path in old)


def test_a_condition_to_be_learned_anew_has_fresh_parts_and_others_theirs(source, tmp_path):
    before = leaves(source, "pose_guider")
    write_branch(source, tmp_path / "anew", recipe_of(), ["hamer"])
    after = leaves(tmp_path / "anew", "pose_guider")
    merge = "params/pose_guider/blocks_0.0/kernel"
    for path, axis in ((f"params/pose_guider/backbone/blocks.{i}/kernel", 3) for i in range(6)):
        old, new = (np.split(flat[path], 3, axis) for flat in (before, after))
        same = [np.array_equal(*pair) for pair in zip(old, new, strict=True)]
        assert same == [True, False, True], path
    same = [
        np.array_equal(*(np.split(x[merge], 3, 2)[i] for x in (before, after))) for i in (0, 1, 2)
    ]
    assert same == [True, False, True]
    others = {path for path in before if "backbone" not in path and "/gate_module/" not in path}
    assert all(np.array_equal(before[path], after[path]) for path in others - {merge})
    with pytest.raises(UserError, match="--fresh: expected some of dwpose, smpl, found hamer"):
        write_branch(source, tmp_path / "fewer", recipe_of("no_hamer"), ["hamer"])


def test_other_models_are_refused(source, tmp_path):
    recipe = recipe_of()
    unet = dataclasses.replace(recipe.model.unet, context_dim=24)
    other = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, unet=unet))
    with pytest.raises(UserError, match=r"expected \(.*found \("):
        write_branch(source, tmp_path / "other", other)
    assert not (tmp_path / "other").exists()
    write_branch(source, tmp_path / "fewer", recipe_of("no_hamer"))
    with pytest.raises(UserError, match="expected image-stage weights"):
        write_branch(tmp_path / "fewer", tmp_path / "more", recipe)
