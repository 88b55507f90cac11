"""The doctor: silent on a healthy case, and one bad case for every finding there is."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from realisdance_jax import doctor
from realisdance_jax.checkpoints.random_weights import write_random_weights
from realisdance_jax.checks.case import Case
from realisdance_jax.checks.doctor import examine
from realisdance_jax.checks.findings import Finding
from realisdance_jax.checks.memory import available_bytes, weight_bytes
from realisdance_jax.data.video_io import read_frames
from realisdance_jax.models.config import RealisDanceConfig
from realisdance_jax.poses.clip_files import load_clip, save_clip
from realisdance_jax.poses.dwpose_files import read_dwpose
from tests.commands import Run, run_program
from tests.e2e.conftest import SMALL
from tests.e2e.doctor_cases import (
    FRAMES,
    HEIGHT,
    WIDTH,
    Material,
    copy,
    make_case,
    make_material,
    video,
    with_driver,
)
from tests.e2e.doctor_faults import (
    BAD,
    body_in_bgr,
    bystanders,
    drawn,
    drawn_by_video,
    half_body,
    hands_and_body_swapped,
    hands_in_bgr,
    missing_file,
    reference_elsewhere,
    skeleton_in_bgr,
    small_bystander_first,
    wrong_look,
)


@pytest.fixture(scope="module")
def material() -> Material:
    return make_material()


@pytest.fixture(scope="module")
def healthy(tmp_path_factory, material) -> Case:
    return make_case(tmp_path_factory.mktemp("case"), material)


def bad(findings: list[Finding]) -> list[str]:
    return [str(finding) for finding in findings if finding.severity != "note"]


def test_a_healthy_case_has_only_notes(healthy):
    findings = examine(healthy)
    assert bad(findings) == []
    notes = " ".join(map(str, findings))
    assert "looks like `sd`" in notes
    assert f"{FRAMES} of {FRAMES} frames are used" in notes
    assert "the output has 24 fps" in notes


def test_the_other_look_and_drawn_keypoints_are_healthy_too(healthy, tmp_path):
    case = replace(make_case(tmp_path, make_material("dit")), look="dit")
    path = video(tmp_path / "drawn.mp4", drawn(case))
    case = with_driver(case, "dwpose", path)
    findings = examine(case)
    assert bad(findings) == []
    assert any("looks like `dit`" in str(finding) for finding in findings)


SIZES = [(512, 512), (640, 480), (768, 576), (1080, 1920)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_half_a_body_without_hands_is_healthy(healthy, material, tmp_path, size):
    """Its nose is the only disc of a pure colour, and its head is colder than its arms."""
    case = drawn_by_video(healthy, tmp_path, half_body(copy(material)), size)
    assert [one for one in examine(case) if one.check == "channels"] == []


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("hands", [True, False])
def test_channels_are_told_apart_at_every_size(healthy, material, tmp_path, size, hands):
    spoilt = copy(material)
    if not hands:
        spoilt.hands[:] = -1
    case = drawn_by_video(healthy, tmp_path, spoilt, size)
    assert [one for one in examine(case) if one.check == "channels"] == []
    pictures = np.stack(list(read_frames(case.drivers["dwpose"])))[..., ::-1]
    backwards = with_driver(case, "dwpose", video(tmp_path / "bgr.mp4", pictures))
    assert [one.severity for one in examine(backwards) if one.check == "channels"] == ["error"]


def references(case: Case, folder: Path) -> list[Path]:
    """The keypoints of the reference as `prepare poses` keeps them, and as OpenPose writes them."""
    clip = read_dwpose(case.reference_keypoints)
    save_clip(folder / "ref.npz", clip)
    pixels = np.concatenate([clip.body[0, 0] * (WIDTH, HEIGHT), np.full((18, 1), 0.9)], axis=1)
    people = [{"pose_keypoints_2d": pixels.ravel().tolist()}]
    record = {"people": people, "canvas_height": HEIGHT, "canvas_width": WIDTH}
    (folder / "openpose.json").write_text(json.dumps(record))
    return [folder / "ref.npz", folder / "openpose.json"]


def test_the_reference_may_be_any_keypoints_that_prepare_takes(healthy, tmp_path):
    for path in references(healthy, tmp_path):
        assert bad(examine(replace(healthy, reference_keypoints=path))) == []
    moved = load_clip(tmp_path / "ref.npz")
    save_clip(tmp_path / "moved.npz", replace(moved, body=moved.body + 0.25))
    findings = examine(replace(healthy, reference_keypoints=tmp_path / "moved.npz"))
    expect(findings, "warning framing: .*2[345]% of the width to the left")


def matches(expected: str, finding: Finding) -> bool:
    severity, check, text = expected.split(maxsplit=2)
    line = f"{finding.subject} {finding.found} {finding.advice}"
    same = (finding.severity, f"{finding.check}:") == (severity, check)
    return same and re.search(text, line) is not None


@pytest.mark.parametrize(("spoil", "expected"), BAD, ids=lambda v: getattr(v, "__name__", ""))
def test_a_bad_case_for_every_finding(healthy, material, tmp_path, spoil, expected):
    findings = examine(spoil(healthy, copy(material), tmp_path))
    assert [one for one in findings if matches(expected, one)], list(map(str, findings))
    assert all("\n" not in str(one) for one in findings)
    assert all(one.advice for one in findings if one.severity != "note")


@pytest.mark.parametrize(
    "spoil",
    [
        *(wrong_look, body_in_bgr, hands_in_bgr, skeleton_in_bgr, bystanders, reference_elsewhere),
        *(small_bystander_first, hands_and_body_swapped),
    ],
    ids=lambda v: v.__name__,
)
def test_one_fault_is_one_finding(healthy, material, tmp_path, spoil):
    """Other checks keep quiet about a fault that is not theirs."""
    findings = examine(spoil(healthy, copy(material), tmp_path))
    assert len({one.check for one in findings if one.severity != "note"}) == 1, bad(findings)


def weighed(healthy: Case, folder: Path, **changes) -> list[Finding]:
    return examine(replace(healthy, weights=folder, **changes))


def expect(findings: list[Finding], expected: str) -> None:
    assert [one for one in findings if matches(expected, one)], list(map(str, findings))


def test_whole_weights(healthy, weights):
    findings = weighed(healthy, weights, verify=True)
    expect(findings, "note weights: complete, hashes as recorded")
    expect(findings, "warning weights: unet.widths is .8, 16., the release's .320")
    assert all(one.check == "weights" for one in findings if one.severity != "note")


def spoilt(weights: Path, folder: Path, change: Callable[[dict], None]) -> Path:
    shutil.copytree(weights, folder)
    data = json.loads((folder / "config.json").read_text())
    change(data)
    (folder / "config.json").write_text(json.dumps(data))
    return folder


def test_weights_that_are_not_whole(healthy, weights, tmp_path):
    findings = weighed(healthy, tmp_path / "gone")
    expect(findings, "error weights: expected a weights folder")
    (tmp_path / "empty").mkdir()
    (finding, *_) = weighed(healthy, tmp_path / "empty")
    assert str(finding).count("convert to-jax") == 1
    without = spoilt(weights, tmp_path / "a", lambda data: data["components"].pop("vae"))
    findings = weighed(healthy, without)
    expect(findings, "error weights: no vae .*--vae or --base")
    wider = spoilt(weights, tmp_path / "b", lambda d: d["model"]["dino"].update(width=16))
    findings = weighed(healthy, wider)
    expect(findings, "error weights: tensors not as in config.json")
    torn = spoilt(weights, tmp_path / "c", lambda data: None)
    shutil.rmtree(torn / "unet_ref")
    findings = weighed(healthy, torn)
    expect(findings, "error weights: unet_ref not a whole checkpoint")
    other = spoilt(
        weights, tmp_path / "d", lambda d: d["components"].update(clip_projector="0" * 64)
    )
    findings = weighed(healthy, other, verify=True)
    expect(findings, "error weights: clip_projector other values than were written")


def test_half_copied_weights(healthy, weights, tmp_path):
    """The list of tensors is whole; the file that holds them is cut, then gone."""
    torn = spoilt(weights, tmp_path / "w", lambda data: None)
    data = max((torn / "unet_main").rglob("d/*"), key=lambda path: path.stat().st_size)
    size = data.stat().st_size
    data.write_bytes(data.read_bytes()[: size // 2])
    cut = f"error weights: unet_main 1 of .* files not whole: .*{data.name} is {size // 2} bytes"
    expect(weighed(healthy, torn), f"{cut}, {size} bytes were written")
    data.unlink()
    expect(weighed(healthy, torn), f"error weights: unet_main .*{data.name} is missing")
    assert "complete" not in " ".join(map(str, weighed(healthy, torn)))


def test_weights_without_a_record_of_files(healthy, weights, tmp_path):
    older = spoilt(weights, tmp_path / "w", lambda data: data.pop("files"))
    findings = weighed(healthy, older)
    expect(findings, "note weights: shapes as recorded, values not read .--verify-weights")
    assert not [one for one in findings if one.severity == "error"]
    expect(weighed(healthy, older, verify=True), "note weights: complete, hashes as recorded")
    expect(
        weighed(healthy, weights), "note weights: complete, files of the sizes that were written"
    )


def test_weights_that_do_not_fit_the_clip(healthy, weights, image_weights, tmp_path):
    expect(weighed(healthy, image_weights), "warning weights: image-stage weights know no motion")
    config = replace(healthy.config, window_size=16, max_frames=80, stride=1)
    long = {"smpl": video(tmp_path / "s.mp4", np.zeros((8, 32, 32, 3), np.uint8))}
    findings = weighed(healthy, weights, config=config, drivers=long)
    expect(findings, "error weights: windows of 16 frames, these weights know 6")
    fresh = spoilt(weights, tmp_path / "f", lambda data: data.update(fresh=["unet_main"]))
    expect(weighed(healthy, fresh), "warning weights: newly initialised, never trained: unet_main")
    pose = replace(SMALL.pose, conditions=("dwpose", "hamer"))
    write_random_weights(tmp_path / "two", replace(SMALL, pose=pose))
    expect(weighed(healthy, tmp_path / "two"), "error weights: --smpl .*only dwpose, hamer")


def test_memory(healthy, weights):
    expect(weighed(healthy, weights), "note memory: about 1")
    findings = weighed(healthy, weights, memory=2**20)
    expect(findings, "warning memory: .*0.0 GiB there .*--dtype bfloat16, --chunk 1")
    half = [weight_bytes(SMALL, size) for size in (2, 4)]
    assert half[1] / 2 < half[0] < half[1]
    assert available_bytes() > 2**30


@pytest.mark.slow
def test_the_released_model_is_ten_gibibytes():
    """Shapes only; the measured peak of a full-width run was 14.8 GB (README.md, Numbers)."""
    released = replace(RealisDanceConfig(), motion=SMALL.motion)
    assert weight_bytes(released, 4) / 2**30 == pytest.approx(10, abs=1)


@pytest.fixture
def command(monkeypatch, capfd) -> Callable[..., Run]:
    def run(*words: object) -> Run:
        return run_program(doctor.main, words, monkeypatch, capfd)

    return run


def words_of(case: Case) -> list[object]:
    words: list[object] = ["--ref", case.reference, "--ref-dwpose", case.reference_keypoints]
    for name, path in case.drivers.items():
        words += [f"--{name}", path]
    size = f"{HEIGHT}x{WIDTH}"
    return [*words, "--size", size, "--stride", 1, "--window-size", 6, "--window-overlap", 2]


def test_the_command(healthy, weights, tmp_path, command):
    code, out, err = command(*words_of(healthy))
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[-1] == f"0 errors, 0 warnings, {len(lines) - 1} notes"
    code, out, _ = command(*words_of(healthy), "--weights", weights, "--memory", 0.001, "--json")
    report = json.loads(out)
    assert code == 0  # warnings are no errors
    assert report["ok"]
    assert {one["severity"] for one in report["findings"]} == {"warning", "note"}
    assert set(report["findings"][0]) == {"severity", "check", "subject", "found", "advice"}
    code, out, _ = command(*words_of(missing_file(healthy, None, tmp_path)))
    assert code == 1
    assert out.startswith("error   files: --smpl: ")
    assert "1 error, " in out.splitlines()[-1]
    code, out, _ = command(*words_of(missing_file(healthy, None, tmp_path)), "--json")
    assert code == 1
    assert not json.loads(out)["ok"]


def test_the_folder_of_a_case(healthy, tmp_path, command):
    """Read as `sample --root` reads it; what was not checked for want of files is said."""
    shutil.copytree(healthy.reference.parent, tmp_path / "dance")
    folder = tmp_path / "dance"
    (folder / "ref.json").unlink()
    words = [*words_of(healthy)[-8:], "--ref-dwpose", healthy.reference_keypoints]
    code, out, err = command(folder, *words)
    assert (code, err) == (0, "")
    assert "0 errors, 0 warnings, " in out.splitlines()[-1]
    code, out, _ = command(folder, *words[:-2])
    assert "note    framing: reference: not checked; give --ref-dwpose" in out.splitlines()
    assert "note    weights: weights and memory: not checked; give --weights" in out.splitlines()
    code, out, err = command(folder, *words, "--smpl", healthy.drivers["smpl"])
    assert (code, out) == (2, "")
    assert "expected a case without --smpl, found both" in err
    (folder / "smpl.avi").touch()
    assert "smpl.mp4: expected one file of this name, found smpl.avi too" in command(folder)[2]
    (folder / "smpl.avi").unlink()
    (folder / "ref.png").unlink()
    code, out, _ = command(folder, *words)
    assert code == 1
    assert "error   reference: " in out
    code, _, err = command(tmp_path)
    assert code == 2
    assert "expected a case (ref.png, dwpose.json, ...), found none" in err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--size", "wide"], "HEIGHTxWIDTH"),
        (["--size", "100x64"], "multiples of 8"),
        (["--memory", "-1"], "memory: expected GiB"),
        (["--stride", "0"], "stride: expected at least 1"),
        (["--smlp", "a.mp4"], "did you mean '--smpl'?"),
    ],
)
def test_options_out_of_range(command, words, part):
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert part in err
    assert err.count("\n") == 1
