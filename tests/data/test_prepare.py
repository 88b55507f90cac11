"""Prepared data sets give the examples that the files gave; what is bad is skipped or refused."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realisdance_jax.checkpoints.variables import abstract_component
from realisdance_jax.checkpoints.weights import (
    FORMAT,
    Manifest,
    read_manifest,
    save_component,
    write_manifest,
)
from realisdance_jax.data.builder import write_cached, write_encoded
from realisdance_jax.data.cached import pack_conditions, unpack_conditions
from realisdance_jax.data.catalogue import dataset_fingerprint, open_source
from realisdance_jax.data.config import CONDITIONS, DataConfig
from realisdance_jax.data.pipeline import make_batches
from realisdance_jax.data.stored import encoder_name, read_index
from realisdance_jax.data.validation import Limits, Verdict, validate
from realisdance_jax.models.config import DinoConfig, RealisDanceConfig, UNetConfig, VAEConfig
from realisdance_jax.models.dinov2 import DinoV2
from realisdance_jax.models.vae import VAE
from realisdance_jax.prepare import make_parser
from realisdance_jax.preparing.dataset import prepare_dataset
from realisdance_jax.utils.errors import UserError
from tests.data.folders import FRAMES, copy_clip, truncate, write_folder
from tests.refusals import refusal

SIZE = (32, 24)
CONFIG = DataConfig(batch=2, frames=3, stride=2, size=SIZE)
TINY = RealisDanceConfig(
    unet=UNetConfig(widths=(32, 32, 64, 64), context_dim=32),
    dino=DinoConfig(width=12, layers=1, heads=2, table_size=3),
    vae=VAEConfig(widths=(32, 32, 32, 32), layers_per_block=1),
)


class PooledEncoder:
    """Stands in for the networks: any pure function of the pictures will do."""

    name = "pooled"

    def posterior(self, pictures):
        f, height, width, _ = pictures.shape
        cells = pictures.reshape(f, height // 8, 8, width // 8, 8, 3)
        mean, std = cells.mean((2, 4)), cells.std((2, 4))
        return (np.concatenate([x, x[..., :1]], -1) for x in (mean, std))

    def tokens(self, pictures):
        return pictures[:, ::80, ::80].reshape(len(pictures), -1, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("raw"), 4)


def passed(source) -> list[Verdict]:
    return list(validate(source, CONDITIONS, Limits(SIZE)))


@pytest.fixture(scope="module")
def encoded(folder, tmp_path_factory) -> Path:
    source = open_source(str(folder), CONFIG)
    out = tmp_path_factory.mktemp("prepared") / "encoded"
    write_encoded(source, passed(source), CONDITIONS, out)
    return out


@pytest.fixture(scope="module")
def cached(folder, tmp_path_factory) -> Path:
    source = open_source(str(folder), CONFIG)
    out = tmp_path_factory.mktemp("prepared") / "cached"
    write_cached(source, passed(source), CONDITIONS, out, PooledEncoder(), SIZE, chunk=4)
    return out


def take(source: Path, steps: int = 3, **changes) -> list[dict]:
    config = dataclasses.replace(CONFIG, sources=(str(source),), **changes)
    with make_batches(config, seed=5) as iterator:
        return [next(iterator) for _ in range(steps)]


@pytest.mark.parametrize("changes", [{}, {"frames": 1}, {"crop_scale": (0.3, 0.8), "flip": 0.5}])
def test_encoded_shards_give_the_same_examples_to_the_bit(folder, encoded, changes):
    for a, b in zip(take(folder, **changes), take(encoded, **changes), strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


@pytest.mark.parametrize("changes", [{}, {"frames": 1}, {"conditions": ("hamer",)}])
def test_a_cache_gives_the_same_examples_encoded(folder, cached, changes):
    encoder = PooledEncoder()
    for a, b in zip(take(folder, **changes), take(cached, **changes), strict=True):
        for key in ("sample_id", "draw_hash"):
            np.testing.assert_array_equal(a[key], b[key])
        for example in range(2):
            mean, std = encoder.posterior(a["video"][example])
            np.testing.assert_array_equal(b["latent_mean"][example], mean)
            np.testing.assert_array_equal(b["latent_std"][example], std)
        mean, std = encoder.posterior(a["reference"])
        np.testing.assert_array_equal(b["reference_mean"], mean)
        np.testing.assert_array_equal(b["reference_std"], std)
        np.testing.assert_array_equal(b["tokens"], encoder.tokens(a["encoder_image"]))
        assert b["conditions"].dtype == np.uint8
        np.testing.assert_array_equal(b["conditions"], np.rint(a["conditions"] * 255))


def test_conditions_are_kept_without_loss():
    values = np.arange(256, dtype=np.float32)[:, None, None] / 255
    pictures = np.broadcast_to(values, (256, 4, 9))
    unpacked = unpack_conditions(pack_conditions(pictures), (256, 4))
    np.testing.assert_array_equal(unpacked[:, 0, 0], np.arange(256))


def test_a_cache_may_keep_tokens_of_few_references(folder, cached, tmp_path):
    source = open_source(str(folder), CONFIG)
    out = tmp_path / "few"
    write_cached(source, passed(source), CONDITIONS, out, PooledEncoder(), SIZE, 2, 4)
    shown = {int(n): set() for n in range(4)}
    for batch in take(out, 30):
        for number, tokens in zip(batch["sample_id"], batch["tokens"], strict=True):
            shown[int(number)].add(tokens.tobytes())
    assert [len(tokens) for tokens in shown.values()] == [2, 2, 2, 2]
    first, wanted = take(out, 2, reference="first"), take(cached, 2, reference="first")
    for a, b in zip(first, wanted, strict=True):
        np.testing.assert_array_equal(a["tokens"], b["tokens"])
        np.testing.assert_array_equal(a["reference_mean"], b["reference_mean"])


def test_a_cache_refuses_what_it_cannot_give(folder, cached):
    for changes, reason in (
        ({"flip": 0.5}, "no random flip with a cache"),
        ({"crop_scale": (0.5, 1.0)}, "no random crop_scale"),
        ({"crop_ratio": (0.5, 1.0)}, "no random crop_scale and crop_ratio"),
        ({"size": (64, 48)}, "expected a cache of 64x48 pictures, found 32x24"),
    ):
        with pytest.raises(UserError, match=reason):
            take(cached, **changes)
    mixed = dataclasses.replace(CONFIG, sources=(str(cached), str(folder)))
    with pytest.raises(UserError, match=f"{folder}: expected a cached data set"):
        make_batches(mixed, seed=0)


def test_fingerprints_follow_the_records(folder, encoded, cached, tmp_path):
    def of(path: Path) -> str:
        return dataset_fingerprint(dataclasses.replace(CONFIG, sources=(str(path),)))

    assert len({of(folder), of(encoded), of(cached)}) == 3
    source = open_source(str(folder), CONFIG)
    write_encoded(source, passed(source), CONDITIONS, tmp_path / "again")
    assert of(tmp_path / "again") == of(encoded)
    verdicts = [dataclasses.replace(passed(source)[0], reason="bad"), *passed(source)[1:]]
    write_encoded(source, verdicts, CONDITIONS, tmp_path / "less")
    assert of(tmp_path / "less") != of(encoded)


def test_damaged_shards_are_user_errors(encoded, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(encoded, copy)
    (shard,) = copy.glob("clips/*.array_record-*")
    data = bytearray(shard.read_bytes())
    data[len(data) // 8 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 8)
    shard.write_bytes(bytes(data))
    with pytest.raises(UserError, match="expected a whole record") as caught:
        take(copy)
    assert "\n" not in str(caught.value)
    shard.unlink()
    with pytest.raises(UserError, match=f"{shard.name}: expected a shard, found no such file"):
        take(copy)
    for text, reason in (("{", "expected JSON"), ('{"format": 0}', "expected format 1, found 0")):
        (copy / "dataset.json").write_text(text)
        with pytest.raises(UserError, match=reason):
            take(copy)


def run(*arguments: object) -> None:
    prepare_dataset(make_parser().parse_args(["dataset", *map(str, arguments)]))


def test_the_command_skips_reports_and_writes(folder, tmp_path, capsys):
    raw = tmp_path / "raw"
    shutil.copytree(folder, raw / "train")
    copy_clip(raw / "train", "000", "cut")
    truncate(raw / "train" / "video" / "cut.mp4")
    out = tmp_path / "out"
    run("--source", raw, "--out", out, "--size", "32x24", "--workers", 2)
    text = capsys.readouterr().out
    assert "skipped cut: " in text
    assert f"checked 5 clips: 4 kept ({4 * FRAMES} frames), 1 skipped" in text
    index = read_index(out)
    assert index.names == ("000", "001", "002", "003")
    assert index.frames == (FRAMES,) * 4
    assert list(index.skipped) == ["cut"]
    for a, b in zip(take(folder), take(out), strict=True):
        np.testing.assert_array_equal(a["video"], b["video"])
    # Shards can be checked and packed again.
    run("--source", out, "--out", tmp_path / "again", "--size", "32x24")
    assert read_index(tmp_path / "again").fingerprint == index.fingerprint


def test_the_command_refuses_in_one_line(folder, cached, tmp_path):
    for arguments, reason in (
        (("--source", folder, "--out", tmp_path), "expected a new folder"),
        (("--source", folder, "--out", tmp_path / "x", "--cache"), "--cache and --weights"),
        (("--source", tmp_path, "--out", tmp_path / "x"), "found none of them"),
        (("--source", cached, "--out", tmp_path / "x", "--size", "32x24"), "found a cache"),
        (("--source", folder, "--out", tmp_path / "x", "--size", "900x900"), "multiples of 8"),
        (("--source", folder, "--out", tmp_path / "x"), "none that passed"),
        (("--source", "synthetic", "--out", tmp_path / "x", "--size", "64x48"), "drawn pictures"),
    ):
        with pytest.raises(UserError, match=reason) as caught:
            run(*arguments)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "x").exists()


def test_help_and_errors_of_the_command_line(tmp_path):
    command = [sys.executable, "-m", "realisdance_jax.prepare", "dataset"]
    arguments = ["--source", str(tmp_path / "absent"), "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path}/absent: expected")
    assert done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> tuple[Path, dict]:
    """A weights folder with the two frozen networks alone, and their variables."""
    folder = tmp_path_factory.mktemp("weights")
    rng = np.random.default_rng(0)

    def filled(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        return jnp.asarray(0.1 * rng.standard_normal(leaf.shape), leaf.dtype)

    variables = {
        name: jax.tree.map(filled, dict(abstract_component(TINY, name)))
        for name in ("vae", "image_encoder")
    }
    hashes = {name: save_component(folder, name, tree) for name, tree in variables.items()}
    write_manifest(folder, Manifest(FORMAT, TINY, components=hashes))
    return folder, variables


def test_a_cache_holds_what_the_networks_make_of_the_pictures(folder, networks, tmp_path):
    weights, variables = networks
    out = tmp_path / "out"
    options = ("--size", "32x24", "--cache", "--weights", weights, "--chunk", 5)
    run("--source", folder, "--out", out, *options)
    hashes = read_manifest(weights).components
    with make_batches(dataclasses.replace(CONFIG, sources=(str(out),)), seed=5) as iterator:
        iterator.check_encoder({"unet_main": "x", **hashes})
        for name in hashes:
            others = hashes | {name: "0" * 64}
            text = refusal(iterator.check_encoder, others)
            assert text.startswith(f"{out}: expected a cache made by the run's own networks (vae ")
            assert encoder_name(others) in text
    (a,), (b,) = take(folder, 1), take(out, 1)
    posterior = jax.jit(VAE(TINY.vae).posterior)
    mean, std = posterior(
        variables["vae"]["params"], np.concatenate([a["reference"], a["video"][:, 1]])
    )
    np.testing.assert_allclose(b["reference_mean"], mean[:2], atol=2e-5)
    np.testing.assert_allclose(b["reference_std"], std[:2], atol=2e-5)
    np.testing.assert_allclose(b["latent_mean"][:, 1], mean[2:], atol=2e-5)
    np.testing.assert_allclose(b["latent_std"][:, 1], std[2:], atol=2e-5)
    tokens = jax.jit(DinoV2(TINY.dino).apply)(variables["image_encoder"], a["encoder_image"])
    np.testing.assert_allclose(b["tokens"], tokens, atol=2e-5)


def test_a_cache_needs_both_networks(folder, tmp_path):
    write_manifest(tmp_path, Manifest(FORMAT, TINY))
    options = ("--cache", "--weights", tmp_path, "--size", "32x24")
    with pytest.raises(UserError, match="expected the component vae for a cache"):
        run("--source", folder, "--out", tmp_path / "out", *options)
