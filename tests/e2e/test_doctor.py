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
from realisdance_jax.checks.case import Case
from realisdance_jax.checks.doctor import examine
from realisdance_jax.checks.findings import Finding
from realisdance_jax.checks.memory import available_bytes, weight_bytes
from realisdance_jax.demo import write_random_weights
from realisdance_jax.models.config import RealisDanceConfig
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
    hands_in_bgr,
    missing_file,
    reference_elsewhere,
    skeleton_in_bgr,
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
    [wrong_look, body_in_bgr, hands_in_bgr, skeleton_in_bgr, bystanders, reference_elsewhere],
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
