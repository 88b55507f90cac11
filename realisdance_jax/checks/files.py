"""Are the files there, readable, of one length, rate and shape, and large enough?"""

from collections.abc import Iterator
from pathlib import Path

from realisdance_jax.checks.case import Case, Driver, Size
from realisdance_jax.checks.findings import Finding, error, note, warning
from realisdance_jax.data.images import read_image
from realisdance_jax.data.sound import check_sound
from realisdance_jax.data.transforms import crop_box
from realisdance_jax.models.config import CONDITIONS
from realisdance_jax.sampling.conditions import ASSUMED_FPS, source_fps
from realisdance_jax.sampling.config import FPS_RANGE
from realisdance_jax.utils.errors import UserError

SAME_SHAPE = 0.01
"""Relative difference of width / height at which two streams are out of register."""

LARGEST_ENLARGEMENT = 1.5
"""Of the reference's crop; beyond it the animation is visibly soft."""


def check_reference(path: Path | None, size: Size) -> Iterator[Finding]:
    """size: height and width of the animation."""
    if path is None:
        found = "not given, the picture is not checked"
        yield warning("reference", "--ref", found, "give it: `sample` needs one")
        return
    try:
        height, width, _ = read_image(path).shape
    except UserError as problem:
        yield error("reference", "--ref", str(problem), "give a PNG or JPEG")
        return
    _, _, kept_height, kept_width = crop_box(height, width, size[1] / size[0])
    larger = size[0] / kept_height
    if larger > LARGEST_ENLARGEMENT:
        found = f"its {kept_height}x{kept_width} crop is enlarged {larger:.1f} times"
        yield warning("reference", path, found, "use a larger picture or a smaller --size")
    lost = 1 - kept_height * kept_width / (height * width)
    if lost > 0.5:
        shapes = f"{height}x{width} for {size[0]}x{size[1]}"
        found = f"{lost:.0%} of the picture is cropped away ({shapes})"
        yield note("reference", path, found, "or crop it around the person yourself")


def check_audio(case: Case, driver: Driver) -> Iterator[Finding]:
    """Whether the sound can be copied, as far as the output goes."""
    if case.audio is not None:
        frames = len(driver.used(case.config)) or case.config.max_frames
        try:
            check_sound(case.audio, frames / _output_rate(case, driver))
        except UserError as problem:
            yield error("audio", "--audio", str(problem), "convert it or leave it out")


def check_files(case: Case, driver: Driver) -> Iterator[Finding]:
    """The driver's files against each other and the options."""
    if not case.drivers:
        yield error("files", "driver", "no condition is given", "give --dwpose, --hamer or --smpl")
        return
    for name, problem in driver.failures.items():
        yield error("files", f"--{name}", problem, "make or copy the file again")
    for name in CONDITIONS:
        if name not in case.drivers:
            advice = "make it with `prepare poses` if you can"
            yield warning("files", f"--{name}", "not given, black frames instead", advice)
    yield from _check_lengths(case, driver)
    yield from _check_rates(case, driver)
    yield from _check_sizes(driver)


def _check_lengths(case: Case, driver: Driver) -> Iterator[Finding]:
    counts = driver.counts
    if not counts:
        return
    least, most = min(counts.values()), max(counts.values())
    if least != most:
        listed = ", ".join(f"{count} frames in {name}" for name, count in counts.items())
        if case.trim:
            yield warning("length", "driver", listed, f"--trim uses the first {least} of each")
        else:
            advice = "make them from the same film, or --trim to the shortest"
            yield error("length", "driver", listed, advice)
    used, config = len(driver.used(case.config)), case.config
    if used < config.window_size:
        found = f"{used} frames are used of {least}, less than a window of {config.window_size}"
        yield warning("length", "driver", found, "lower --stride; motion needs a full window")
    seconds = f"{used} of {least} frames are used (every {config.stride}.)"
    if used == config.max_frames and least > used * config.stride:
        yield note("length", "driver", seconds, "--max-frames takes more")
    else:
        yield note("length", "driver", seconds)


def _check_rates(case: Case, driver: Driver) -> Iterator[Finding]:
    rates, config = driver.rates, case.config
    if rates and max(rates.values()) > 1.01 * min(rates.values()):
        listed = ", ".join(f"{rate:g} fps in {name}" for name, rate in rates.items())
        yield warning("rate", "driver", listed, "frame k of all must show the same moment")
    if not rates and driver.counts and config.fps is None:
        found = f"no file tells its frame rate, {ASSUMED_FPS:g} fps are assumed"
        yield warning("rate", "driver", found, "give --fps of the output")
    fps = _output_rate(case, driver)
    if not FPS_RANGE[0] <= fps <= FPS_RANGE[1]:
        found = f"the output would have {fps:g} fps"
        yield error("rate", "driver", found, "give --fps of the output")
    elif driver.counts:
        yield note("rate", "driver", f"the output has {fps:g} fps")


def _output_rate(case: Case, driver: Driver) -> float:
    """Frames per second of the output."""
    rate = source_fps(driver.videos, driver.keypoints) or ASSUMED_FPS
    return case.config.fps or rate / case.config.stride


def _check_sizes(driver: Driver) -> Iterator[Finding]:
    sizes = driver.sizes
    ratios = [width / height for height, width in sizes.values()]
    if ratios and max(ratios) > (1 + SAME_SHAPE) * min(ratios):
        listed = ", ".join(f"{height}x{width} in {name}" for name, (height, width) in sizes.items())
        advice = "render all three at the film's size, or they are cropped differently"
        yield error("size", "driver", listed, advice)
    if driver.keypoints is not None and not sizes:
        found = "no H and W beside the keypoints, and no video tells the frame size"
        yield error("size", driver.paths["dwpose"], found, "export H and W with the keypoints")
