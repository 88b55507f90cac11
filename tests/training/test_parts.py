"""The VAE and the image encoder of a small world: they learn, resume, and end as weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realisdance_jax.checkpoints.random_weights import write_random_weights
from realisdance_jax.checkpoints.weights import load_component, read_manifest
from realisdance_jax.models.config import DinoConfig, VAEConfig
from realisdance_jax.models.vae import VAE
from realisdance_jax.training import part_run, parts
from realisdance_jax.training.base import write_base
from realisdance_jax.training.optim import OptimConfig, make_optimizer
from realisdance_jax.training.part_run import train_parts
from realisdance_jax.training.parts import (
    PartConfig,
    contrast,
    encoder_picture,
    expected_latents,
    latent_statistics,
    make_part_step,
    normalised,
    random_squares,
)
from realisdance_jax.training.step import TrainState
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.tree import flatten
from tests.models.tiny import POSE, TWO_LEVELS
from tests.training.test_program import recipe

PARTS = PartConfig(
    vae_steps=12,
    image_encoder_steps=12,
    vae_batch=4,
    image_encoder_batch=4,
    lr=3e-3,
    warmup_steps=1,
    save_every=6,
    log_every=3,
)


@pytest.fixture(scope="module")
def small():
    whole = recipe(1, "dancer,smoke")
    dino = DinoConfig(width=8, layers=1, heads=2, table_size=3)
    vae = VAEConfig(widths=(8, 8, 8, 8), layers_per_block=1, norm_groups=4)
    model = dataclasses.replace(whole.model, unet=TWO_LEVELS, pose=POSE, dino=dino, vae=vae)
    drawn = {"sources": ("synthetic",), "synthetic_frames": 4}
    data = dataclasses.replace(whole.data, size=(64, 48), **drawn)
    return dataclasses.replace(whole, model=model, data=data)


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts") / "run"
    write_random_weights(folder / "base", small.model)  # each initialiser would be compiled
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part_run, "MEASURED", 1)
        train_parts(small, PARTS, folder, jax.devices()[:1])
    return folder


def curve(run, part: str) -> np.ndarray:
    lines = (run / part / "curve.tsv").read_text().splitlines()
    column = lines[0].split("\t").index("loss")
    return np.array([float(line.split("\t")[column]) for line in lines[1:]])


@pytest.mark.parametrize("part", ["vae", "image_encoder"])
def test_a_few_steps_lower_the_loss(run, part):
    losses = curve(run, part)
    assert len(losses) == 4
    assert losses[-1] < 0.95 * losses[0]


def test_the_weights_hold_what_was_trained_and_normal_latents(run, small):
    base, after = (read_manifest(run / name) for name in ("base", "weights"))
    assert set(after.components) == {"vae", "image_encoder"}
    assert all(after.components[name] != base.components[name] for name in after.components)
    vae = VAE(small.model.vae)
    params = load_component(run / "weights", after, "vae")["params"]
    with part_run._batches(small, PARTS, "vae", 12) as batches:
        pictures = jnp.asarray(next(batches)["reference"])
    mean, square = jax.jit(lambda p, x: latent_statistics(vae, p, x))(params, pictures)
    scaling = small.model.vae.scaling
    np.testing.assert_allclose(scaling * mean, 0, atol=1e-3)
    np.testing.assert_allclose(scaling**2 * square, 1, rtol=1e-3)


def test_another_model_starts_from_them(run, small, tmp_path):
    """Whatever its poses go through: only what is frozen has to fit."""
    pose = dataclasses.replace(small.model.pose, kind="ungated")
    other = dataclasses.replace(small, model=dataclasses.replace(small.model, pose=pose))
    base, said = tmp_path / "base", []
    write_base(base, other, run / "weights", None, said.append)
    assert "the others start from random values" in said[0]
    manifest, given = read_manifest(base), read_manifest(run / "weights")
    assert manifest.model == other.model
    assert given.components.items() < manifest.components.items()
    ref, main = (
        flatten(load_component(base, manifest, f"unet_{name}")) for name in ("ref", "main")
    )
    assert len(ref) == len(main)
    for path, leaf in ref.items():  # as with one base model for both
        np.testing.assert_array_equal(leaf, main[path.replace("unet_ref", "unet_main")])
    vae = dataclasses.replace(small.model.vae, layers_per_block=2)
    wrong = dataclasses.replace(small, model=dataclasses.replace(small.model, vae=vae))
    with pytest.raises(UserError, match="expected vae"):
        write_base(tmp_path / "no", wrong, run / "weights", None)


def test_the_decoder_learns_on_and_latents_stay(run, small, tmp_path):
    """From weights that are there; what else they hold is handed on."""
    config = dataclasses.replace(PARTS, lr=1e-3)
    where = {"init": run / "weights", "devices": jax.devices()[:1]}
    written = train_parts(small, config, tmp_path / "run", **where)
    losses = curve(tmp_path / "run", "decoder")
    assert losses[-1] < losses[0]
    before, after = read_manifest(run / "weights"), read_manifest(written)
    assert after.components["image_encoder"] == before.components["image_encoder"]
    old, new = (
        flatten(load_component(folder, manifest, "vae"))
        for folder, manifest in ((run / "weights", before), (written, after))
    )
    moved = {path for path in old if not np.array_equal(old[path], new[path])}
    assert moved == {path for path in old if path.startswith(parts.DECODER_PATHS)}
    with pytest.raises(UserError, match=r"decoder_of, [0-9a-f]+, found None"):
        train_parts(small, config, tmp_path / "run")


def test_a_decoder_of_another_vae_is_refused(run, small, tmp_path):
    vae = dataclasses.replace(small.model.vae, layers_per_block=2)
    other = dataclasses.replace(small, model=dataclasses.replace(small.model, vae=vae))
    with pytest.raises(UserError, match="expected vae"):
        train_parts(other, PARTS, tmp_path / "run", jax.devices()[:1], run / "weights")
    assert not (tmp_path / "run").exists()


def test_nothing_is_begun_without_pictures_or_weights(small, tmp_path):
    data = dataclasses.replace(small.data, sources=(str(tmp_path / "none"),))
    for given, init in ((dataclasses.replace(small, data=data), None), (small, tmp_path)):
        with pytest.raises(UserError, match="expected"):
            train_parts(given, PARTS, tmp_path / "run", jax.devices()[:1], init)
        assert not (tmp_path / "run").exists()


def test_the_same_call_again_does_nothing_and_another_is_refused(run, small):
    assert train_parts(small, PARTS, run) == run / "weights"
    with pytest.raises(UserError, match="expected the run's own kl"):
        train_parts(small, dataclasses.replace(PARTS, kl=1.0), run)


@pytest.mark.parametrize("content", ["[]", "{", '{"seed": 0}'])
def test_damaged_settings_are_refused(content, small, tmp_path):
    (tmp_path / "parts.json").write_text(content)
    with pytest.raises(UserError, match="expected"):
        train_parts(small, PARTS, tmp_path, jax.devices()[:1])
    assert (tmp_path / "parts.json").read_text() == content


def test_normalised_latents_give_the_same_pictures():
    vae = VAE(VAEConfig(widths=(8, 8, 8, 8), layers_per_block=1, norm_groups=4))
    params = jax.jit(vae.init)(jax.random.key(0))
    rng = np.random.default_rng(0)
    mean, std = jnp.asarray(rng.normal(size=4)), jnp.asarray(rng.uniform(0.2, 3, 4))
    other = normalised(params, mean, std, vae.config.scaling)
    picture = jnp.asarray(rng.uniform(-1, 1, (1, 32, 32, 3)), jnp.float32)
    both = jax.jit(lambda p: (vae.posterior(p, picture), vae.decode(p, vae.encode(p, picture))))
    (a, wide), shown = both(params)
    (b, narrow), again = both(other)
    np.testing.assert_allclose(b * vae.config.scaling, (a - mean) / std, atol=1e-4)
    np.testing.assert_allclose(narrow * vae.config.scaling, wide / std, rtol=1e-4)
    np.testing.assert_allclose(again, shown, atol=1e-4)


def test_the_contrast_is_least_where_pairs_agree():
    rows = jnp.eye(4)
    right, found = contrast(rows, rows, 0.1)
    wrong, missed = contrast(rows, jnp.roll(rows, 1, axis=0), 0.1)
    assert (float(found), float(missed)) == (1.0, 0.0)
    assert right < 1e-3 < 5 < wrong
    flat, _ = contrast(jnp.ones((4, 4)), rows, 0.1)
    np.testing.assert_allclose(flat, np.log(4), rtol=1e-6)


def test_pictures_for_the_encoder_are_normalised_as_in_the_data():
    grey = jnp.full((1, 8, 6, 3), 2 * 0.485 - 1)
    np.testing.assert_allclose(encoder_picture(grey, (16, 12))[0, 3, 3, 0], 0, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_encoder_batch": 1}, "image_encoder_batch: expected at least 2"),
        ({"vae_steps": 0}, "vae_steps"),
        ({"lr": 0.0}, "lr"),
        ({"crop": -8}, "crop: expected pixels"),
        ({"noise": -0.1}, "noise: expected at least 0"),
        ({"hands": -1.0}, "hands: expected at least 0"),
        ({"kl": float("nan")}, "kl: expected at least 0"),
    ],
)
def test_bad_settings_are_refused(change, reason):
    with pytest.raises(UserError, match=reason):
        dataclasses.replace(PARTS, **change)


@pytest.mark.parametrize("crop", [20, 56])
def test_a_crop_fits_into_pictures_and_latents(crop, small, tmp_path):
    config = dataclasses.replace(PARTS, crop=crop)
    with pytest.raises(UserError, match="crop: expected a multiple of 8 up to 48"):
        train_parts(small, config, tmp_path / "run", jax.devices()[:1])
    assert not (tmp_path / "run").exists()


def test_pictures_and_weights_are_cropped_alike(small, monkeypatch):
    """Weights are drawn into the pictures, too; the loss gets both."""
    random = np.random.default_rng(0)
    hands = (random.random((4, 1, 64, 48, 1)) > 0.5).astype(np.float32)
    video = np.repeat(1 + PARTS.hands * hands, 3, axis=-1)
    batch = {"video": video, "reference": np.ones_like(video[:, 0]), "conditions": hands}

    def loss(params, vae, config, pictures, weights, noise):
        assert (pictures.shape, noise.shape[1:3]) == ((8, 32, 32, 3), (4, 4))
        off = jnp.abs(pictures - weights[..., None]).max()
        return params["a"] * 0, {"off": off, "hands": weights.max()}

    monkeypatch.setattr(parts, "vae_loss", loss)
    optimizer, flat = make_optimizer(OptimConfig(), 1), {"params/a": jnp.float32(1)}
    state = TrainState(jnp.int32(0), flat, optimizer.init(flat), flat, jnp.int32(0))
    config = dataclasses.replace(PARTS, crop=32)
    step = make_part_step("vae", VAE(small.model.vae), config, optimizer, 0)
    told = jax.jit(step)(state, batch)[1]
    assert (float(told["off"]), float(told["hands"])) == (0, 1 + PARTS.hands)


def test_unsure_latents_are_their_own_best_guess():
    """Regressing the truth on them gives slope 1 at any strength; without noise they are exact."""
    keys = jax.random.split(jax.random.key(3))
    true, normal = (jax.random.normal(key, (3, 64, 64, 4)) for key in keys)
    strengths = jnp.array([0.0, 0.5, 1.0])[:, None, None, None]
    seen = expected_latents(true, strengths * normal)
    np.testing.assert_array_equal(seen[0], true[0])
    slopes = (seen * true).mean(axis=(1, 2, 3)) / jnp.square(seen).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(slopes, 1, atol=0.03)
    assert float(jnp.square(seen[2] - true[2]).mean()) == pytest.approx(0.5, abs=0.03)


def test_squares_lie_inside_and_reach_every_edge():
    values = np.broadcast_to(np.mgrid[:5, :4].transpose(1, 2, 0), (200, 5, 4, 2))
    squares = np.asarray(random_squares(jax.random.key(0), jnp.asarray(values), 3))
    corners = squares[:, :1, :1]
    np.testing.assert_array_equal(squares, corners + values[:, :3, :3])
    found = {tuple(corner) for corner in corners[:, 0, 0].tolist()}
    assert found == {(y, x) for y in range(3) for x in range(2)}
