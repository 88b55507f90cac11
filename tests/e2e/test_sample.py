"""Sampling from files to files: what is written, what each option does, the calls from Python."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from realisdance_jax import sample
from realisdance_jax.checkpoints.weights import read_manifest
from realisdance_jax.data.images import LABEL_HEIGHT, read_image, save_png
from realisdance_jax.data.transforms import crop_resize
from realisdance_jax.data.video_io import VideoWriter, probe_video, read_frames, read_metadata
from realisdance_jax.models.dinov2 import DinoV2
from realisdance_jax.models.pose_guider import PoseGuider
from realisdance_jax.models.unet import UNet
from realisdance_jax.models.vae import VAE
from realisdance_jax.sampling.sampler import SampleConfig, animate

# Both latent sides are odd, so that the UNet has to grow 3 x 4 to 5 x 7.
SIZE = HEIGHT, WIDTH = (40, 56)
OPTIONS = ("--size", f"{HEIGHT}x{WIDTH}", "--stride", 2, "--steps", 2, "--guidance", 1)
"""Three frames of the clip at 12 fps. One shape for all tests, to compile little."""
NAMES = ("dwpose", "hamer", "smpl")


@pytest.fixture
def run(command, monkeypatch, pipelines, weights, clip, tmp_path):
    """Sample the clip into `out`; weights are loaded once for all.

    Without guidance, whose second branch takes twice as long to compile, unless asked for.
    """
    monkeypatch.setattr(sample, "load", pipelines)
    drivers = {name: getattr(clip, name) for name in NAMES}

    def run(*words, out: Path = tmp_path / "out.mp4", using=NAMES, folder=weights, ref=None):
        given = [word for name in using for word in (f"--{name}", drivers[name])]
        files = ["--weights", folder, "--ref", ref or clip.reference, *given, "--out", out]
        return command(*files, *OPTIONS, *words)

    return run


@pytest.fixture
def latents(run, tmp_path):
    """The denoised latents of a run with these options."""

    def latents(*words, **files) -> np.ndarray:
        dumped = tmp_path / "dumped.npy"
        ended = run("--dump-latents", dumped, "--no-side-by-side", *words, **files)
        assert ended.code == 0, ended
        return np.load(tmp_path / "dumped_final.npy")

    return latents


def decoded(path: Path) -> np.ndarray:
    return np.stack(list(read_frames(path)))


def panels(path: Path, count: int) -> list[np.ndarray]:
    """The panels of a side-by-side video, each `f H W 3`."""
    return np.split(decoded(path).astype(float), count, axis=2)


def test_video_beside_it_and_what_they_say(run, weights, clip, tmp_path):
    ended = run("--seed", 5, "--save-frames", "--gates")
    assert ended.code == 0
    out = tmp_path / "out.mp4"
    names = ["out.mp4", "out_side_by_side.mp4", "out_gates.mp4", "out_frames"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert all(f"wrote {tmp_path / name}\n" in ended.out for name in names)
    assert "not given" not in ended.out
    assert "compiled in" in ended.out
    for name, across in zip(names[:3], (1, 5, 3), strict=True):
        info = probe_video(tmp_path / name)
        assert (info.frames, info.fps) == (3, 12)
        height = HEIGHT + LABEL_HEIGHT * (name == "out_gates.mp4")
        assert (info.height, info.width) == (height, across * WIDTH)
    tags = read_metadata(out)
    assert tags["realisdance_seed"] == "5"
    assert tags["realisdance_weights"] == read_manifest(weights).weight_hash
    config = json.loads(tags["realisdance_config"])
    assert config["size"] == list(SIZE)
    assert (config["steps"], config["seed"], config["fps"]) == (2, 5, 12)
    assert (config["uncond"], config["dtype"]) == ("fake", "float32")
    frames = [read_image(tmp_path / "out_frames" / f"{i:06d}.png") for i in range(3)]
    assert np.abs(decoded(out).astype(float) - np.stack(frames)).mean() < 12
    reference, *_, result = panels(tmp_path / "out_side_by_side.mp4", 5)
    wanted = 255 * crop_resize(read_image(clip.reference), SIZE)
    assert np.abs(reference - wanted).mean() < 6
    assert np.abs(result - np.stack(frames)).mean() < 12


def test_rate_and_contents_can_be_chosen(run, tmp_path):
    assert run("--fps", 7.5, "--no-side-by-side").code == 0
    assert probe_video(tmp_path / "out.mp4").fps == 7.5
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_the_same_latents_give_the_same_video(run, tmp_path):
    first, second = tmp_path / "first.mp4", tmp_path / "second.mp4"
    dumped, again = tmp_path / "z.npy", tmp_path / "again.npy"
    assert run("--seed", 3, "--dump-latents", dumped, out=first).code == 0
    assert np.load(dumped).shape == (1, 4, 3, 5, 7)
    given = ("--init-latents", dumped, "--dump-latents", again)
    assert run("--seed", 4, *given, out=second).code == 0
    np.testing.assert_array_equal(decoded(first), decoded(second))
    assert again.read_bytes() == dumped.read_bytes()
    finals = [np.load(path.with_name(f"{path.stem}_final.npy")) for path in (dumped, again)]
    np.testing.assert_array_equal(*finals)
    assert json.loads(read_metadata(second)["realisdance_config"])["initial_latents"] == "given"


def test_seeds(latents):
    one, same, other = (latents("--seed", seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).mean() > 0.1


def test_speed_is_said_and_changes_the_video(run, latents, tmp_path):
    """An option that is given wins over the bundle."""
    dump = ("--dump-latents", tmp_path / "fast.npy")
    ended = run("--speed", "fast", "--steps", 3, "--reuse-features", 2, *dump)
    assert ended.code == 0
    expected = "speed fast: unipc, 3 steps, the whole network every 2 steps, float32\n"
    assert expected in ended.out
    tags = json.loads(read_metadata(tmp_path / "out.mp4")["realisdance_config"])
    assert (tags["solver"], tags["steps"], tags["reuse_features"]) == ("unipc", 3, 2)
    every = latents("--solver", "unipc", "--steps", 3)
    assert 1e-3 < np.abs(every - np.load(tmp_path / "fast_final.npy")).mean() < 1


def test_memory_changes_nothing_but_where_things_are(run, latents, pipelines, weights, tmp_path):
    """Sizes made for what is free, and weights that are done kept on the host."""
    dump = ("--dump-latents", tmp_path / "there.npy", "--no-side-by-side")
    ended = run("--memory", "auto", "--offload", "--chunk", 2, *dump)
    assert ended.code == 0
    assert "; 1 windows and 2 frames per call" in ended.out
    kept = pipelines(weights, offload=True)
    leaves = jax.tree.leaves((kept.variables["params"]["unet_ref"], kept.dino_variables))
    assert {type(leaf) for leaf in leaves} == {np.ndarray}
    assert not isinstance(jax.tree.leaves(kept.vae_params["decoder"])[0], np.ndarray)
    np.testing.assert_allclose(np.load(tmp_path / "there_final.npy"), latents(), atol=1e-5)


@pytest.mark.slow
def test_exported_programs_trace_no_network(run, latents, tmp_path, monkeypatch):
    """All of them: of DINOv2, VAE, pose encoders and both UNets."""
    file = tmp_path / "programs.zip"
    direct = latents("--export", file)
    with monkeypatch.context() as patch:
        for network in (UNet, PoseGuider, DinoV2):
            patch.setattr(network, "setup", lambda self: pytest.fail("traced"))
        patch.setattr(VAE, "_apply", lambda *args: pytest.fail("traced"))
        np.testing.assert_array_equal(latents("--exported", file), direct)
        ended = run("--exported", file, "--size", "48x56")
    assert f"error: {file}: expected the program " in ended.refusal
    assert "found both" in run("--export", file, "--exported", file).refusal


def test_stored_programs_are_looked_at_before_weights(run, monkeypatch, tmp_path):
    monkeypatch.setattr(sample, "load", lambda *args, **options: pytest.fail("loaded"))
    for file in (tmp_path / "absent.zip", tmp_path / "damaged.zip"):
        assert f"error: {file}: expected programs that" in run("--exported", file).refusal
        (tmp_path / "damaged.zip").write_bytes(b"PK")


@pytest.mark.parametrize("using", [("dwpose",), ("hamer", "smpl")], ids="+".join)
def test_absent_conditions_are_black_and_said(run, tmp_path, using):
    ended = run(using=using)
    assert ended.code == 0
    _, *conditions, _ = panels(tmp_path / "out_side_by_side.mp4", 5)
    for name, pictures in zip(NAMES, conditions, strict=True):
        assert (f"{name}: not given, black frames instead\n" in ended.out) == (name not in using)
        assert (pictures.max() > 60) == (name in using)


def test_conditions_and_reference_matter(latents, clip, tmp_path):
    """The weights are all at random, so that nothing may be without effect."""
    inverted = tmp_path / "inverted.png"
    save_png(inverted, 255 - read_image(clip.reference))
    base = latents()
    others = [latents(using=[name for name in NAMES if name != left]) for left in NAMES]
    for other in (*others, latents(ref=inverted)):
        assert np.abs(base - other).mean() > 1e-4


def test_guidance(latents):
    """Off up to 1, whatever the unconditional branch; above, the branch matters."""
    fake, image = ("--uncond", "fake"), ("--uncond", "image")
    np.testing.assert_array_equal(latents(*fake), latents(*image))
    np.testing.assert_array_equal(latents(*fake), latents("--guidance", 0.5))
    guided = latents("--guidance", 2)
    np.testing.assert_array_equal(guided, latents("--guidance", 2, *fake))
    others = [("--guidance", 1), ("--guidance", 2, *image)]
    others += [("--guidance", 2, "--guidance-rescale", 0.7)]
    for words in others:
        assert np.abs(guided - latents(*words)).mean() > 1e-4


@pytest.mark.parametrize("words", [("--eta", 1), ("--solver", "unipc")], ids=lambda w: w[0][2:])
def test_solvers(latents, words):
    """Another way through the noise: finite, reproducible, and not the default's."""
    one, same = latents(*words), latents(*words)
    np.testing.assert_array_equal(one, same)
    assert np.isfinite(one).all()
    assert np.abs(one - latents()).mean() > 1e-3


def test_blended_windows_in_one_call_or_two(latents):
    """With both windows in one call, their pose guidance is computed once for all steps."""
    words = ("--windows", "blend", "--window-size", 2, "--window-overlap", 1, "--solver", "dpm++")
    one, two = (latents(*words, "--window-batch", count) for count in (1, 2))
    assert np.linalg.norm(one - two) < 1e-5 * np.linalg.norm(one)
    assert np.abs(one - latents()).mean() > 1e-3


def test_bfloat16(latents):
    """Close to float32, for three digits' worth of numbers."""
    exact, coarse = latents(), latents("--dtype", "bfloat16")
    assert 0 < np.linalg.norm(coarse - exact) < 0.3 * np.linalg.norm(exact)


def test_quantized_kernels(run, latents, monkeypatch, tmp_path):
    """Close to float32 again; the video says so, and the command, too."""
    monkeypatch.setattr("realisdance_jax.models.quantized.LEAST", 0)
    dump = ("--dump-latents", tmp_path / "small.npy")
    ended = run("--quantize", "int8", *dump)
    assert "speed exact: ddim, 2 steps, float32, int8 kernels\n" in ended.out
    tags = json.loads(read_metadata(tmp_path / "out.mp4")["realisdance_config"])
    assert tags["quantize"] == "int8"
    exact, coarse = latents(), np.load(tmp_path / "small_final.npy")
    assert 0 < np.linalg.norm(coarse - exact) < 0.3 * np.linalg.norm(exact)


def test_image_stage_animates_each_frame_by_itself(latents, image_weights, tmp_path):
    first = latents(folder=image_weights)
    start = np.load(tmp_path / "dumped.npy")
    start[:, :, 1] += 1
    np.save(tmp_path / "start.npy", start)
    second = latents("--init-latents", tmp_path / "start.npy", folder=image_weights)
    np.testing.assert_array_equal(first[:, :, [0, 2]], second[:, :, [0, 2]])
    assert np.abs(first[:, :, 1] - second[:, :, 1]).mean() > 1e-3


def test_colours(run, clip, tmp_path):
    """The video as a whole has the reference's mean, unless switched off."""
    wanted = crop_resize(read_image(clip.reference), SIZE).mean(axis=(0, 1)) * 255
    errors = []
    for switch in ("--color", "--no-color"):
        assert run(switch, "--no-side-by-side", "--save-frames").code == 0
        pictures = [read_image(path) for path in (tmp_path / "out_frames").iterdir()]
        errors.append(np.abs(np.mean(pictures, axis=(0, 1, 2)) - wanted).max())
    assert errors[0] < 12
    assert errors[1] > 2 * errors[0]


def test_alpha(run, clip, tmp_path):
    """A wholly transparent picture is white, or the colour beneath."""
    rgba = np.zeros((64, 48, 4), np.uint8)
    rgba[..., 0] = 200
    Image.fromarray(rgba).save(tmp_path / "clear.png")
    for alpha, colour in (("white", (255, 255, 255)), ("drop", (200, 0, 0))):
        assert run("--alpha", alpha, ref=tmp_path / "clear.png").code == 0
        reference = panels(tmp_path / "out_side_by_side.mp4", 5)[0]
        np.testing.assert_allclose(reference.mean(axis=(0, 1, 2)), colour, atol=6)


def test_trim(run, clip, tmp_path):
    """Only the first frames of the longer files are used."""
    longer = tmp_path / "longer.mp4"
    with VideoWriter(longer, 24, (64, 48)) as writer:
        for frame in (*read_frames(clip.smpl), np.zeros((64, 48, 3), np.uint8)):
            writer.write(frame)
    words = ("--smpl", longer)
    refused = run(*words, using=("dwpose", "hamer")).refusal
    for part in ("6 in ", "dwpose.json", "hamer.mp4", f"7 in {longer}", "--trim"):
        assert part in refused
    assert run(*words, "--trim", using=("dwpose", "hamer")).code == 0
    assert probe_video(tmp_path / "out.mp4").frames == 3


def make_cases(root: Path, layout: str, clip, **cases: tuple[str, ...]) -> None:
    """Copies of the clip's files; `layout` says where a kind of a case goes."""
    for case, kinds in cases.items():
        for kind in kinds:
            source = clip.reference if kind == "ref" else getattr(clip, kind)
            target = root / (layout.format(case=case, kind=kind) + source.suffix)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


@pytest.mark.parametrize("layout", ["{case}/{kind}", "{kind}/{case}"])
@pytest.mark.usefixtures("run")  # for its `load`
def test_folder_of_cases(command, clip, weights, tmp_path, layout):
    root, out = tmp_path / "root", tmp_path / "videos"
    words = ("--weights", weights, "--root", root, "--out", out, *OPTIONS)
    make_cases(root, layout, clip, b=("ref", "hamer"))
    assert command(*words).code == 0
    assert sorted(path.name for path in out.iterdir()) == ["b.mp4", "b_side_by_side.mp4"]
    shutil.rmtree(out)
    make_cases(root, layout, clip, a=("ref", *NAMES), c=("dwpose",))
    damaged = root / (layout.format(case="a", kind="hamer") + ".mp4")
    damaged.write_text("not a video")
    ended = command(*words)
    assert ended.code == 2
    lines = [line for line in ended.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 3
    assert lines[0].startswith(f"error: a: {damaged}: ")
    assert lines[1].startswith("error: c: ")
    assert lines[2].endswith("2 cases failed: a, c")
    assert ended.out.splitlines()[-1] == "1 of 3 cases animated"
    assert sorted(path.name for path in out.iterdir()) == ["b.mp4", "b_side_by_side.mp4"]


@pytest.mark.usefixtures("run")
def test_no_case_stops_the_others(command, monkeypatch, clip, weights, tmp_path):
    """Not one with two files for a thing, and not one that runs into a mistake of this program."""
    root, out = tmp_path / "root", tmp_path / "videos"
    make_cases(root, "{case}/{kind}", clip, **dict.fromkeys("abc", ("ref", "hamer")))
    shutil.copy(clip.hamer, root / "a" / "hamer.avi")
    inner = sample.animate

    def animate(pipeline, reference, *others, **options):
        if reference.parent.name == "b":
            raise ZeroDivisionError("by\nzero")
        return inner(pipeline, reference, *others, **options)

    monkeypatch.setattr(sample, "animate", animate)
    ended = command("--weights", weights, "--root", root, "--out", out, *OPTIONS)
    assert ended.code == 2
    lines = [line for line in ended.err.splitlines() if line.startswith("error:")]
    assert lines[0].startswith(f"error: a: {root}/a/hamer.mp4: expected one file of this name")
    assert lines[1] == "error: b: ZeroDivisionError('by\\nzero')"
    assert lines[2].endswith("2 cases failed: a, b")
    assert ended.err.count("Traceback (most recent call last)") == 1
    assert sorted(path.name for path in out.iterdir()) == ["c.mp4", "c_side_by_side.mp4"]


def test_from_python(pipelines, weights, clip):
    """The two calls of the front page."""
    pipeline = pipelines(weights)
    said = []
    config = SampleConfig(SIZE, stride=2, steps=2, seed=1)
    animation = animate(
        pipeline, str(clip.reference), dwpose=str(clip.dwpose), config=config, say=said.append
    )
    assert animation.video.shape == (3, HEIGHT, WIDTH, 3)
    assert animation.video.dtype == np.float32
    assert 0 <= animation.video.min() < animation.video.max() <= 1
    assert animation.gates.shape == (3, 5, 7, 3)
    assert 0 < animation.gates.min() <= animation.gates.max() < 1
    assert animation.latents.shape == animation.initial.shape == (3, 5, 7, 4)
    assert animation.fps == 12
    assert len(animation.timing.step_seconds) == 2
    assert sum("not given" in line for line in said) == 2
    assert any("frame rate" in line for line in said)
