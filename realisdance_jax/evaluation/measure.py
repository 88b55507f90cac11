"""Numbers of one generated clip against the true one, and summaries over clips."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from realisdance_jax.evaluation.protocols import TRUE, Protocol, Truth
from realisdance_jax.metrics.clips import CLIP, Network, Sampling, video_features
from realisdance_jax.metrics.frechet import Gaussian, frechet_distance, merged_gaussian
from realisdance_jax.metrics.i3d import I3D, i3d_logits
from realisdance_jax.metrics.inception import INCEPTION, inception_features
from realisdance_jax.metrics.lpips import LINEAR, TRUNKS, lpips
from realisdance_jax.metrics.paired import paired_difference
from realisdance_jax.metrics.pixels import disco_l1, l1, psnr, psnr_uint8_overflow
from realisdance_jax.metrics.resnet3d import RESNET3D, resnet3d_features
from realisdance_jax.metrics.ssim import ssim
from realisdance_jax.metrics.states import Mean, bootstrap_interval
from realisdance_jax.metrics.temporal import motion_ratio, temporal_jitter
from realisdance_jax.metrics.weights import read_weights
from realisdance_jax.shapes import UInt8

Features = dict[str, np.ndarray]
MEASURING = 1
"""Raised when a number of an evaluation comes out otherwise, so that old ones are not kept."""

CHUNK = 8
"""Frames that a network of published metrics sees at once."""

CEILING = 100.0
"""dB of frames without any difference, as DisCo counts them, so that means stay finite."""


@dataclass(frozen=True)
class Row:
    """Numbers of one model on one clip in one case; NaN where there is nothing to measure."""

    model: str
    case: str
    clip: int
    metrics: dict[str, float]


def pixel_metrics(
    generated: UInt8[np.ndarray, "f H W 3"], truth: Truth, protocol: Protocol
) -> dict[str, float]:
    """Means over frames, whole pictures first, then per region.

    `disco` has the numbers of its tables too, under names that say so.
    """
    true = truth.frames
    found: dict[str, np.ndarray | float] = {
        "psnr": psnr(generated, true, identical=CEILING),
        "ssim": ssim(generated, true),
        "l1": l1(generated, true),
        "jitter": temporal_jitter(generated, true),
        "motion": motion_ratio(generated, true),
    }
    for name, mask in truth.masks.items():
        found[f"psnr_{name}"] = psnr(generated, true, mask, identical=CEILING)
        found[f"ssim_{name}"] = ssim(generated, true, mask)
        found[f"jitter_{name}"] = temporal_jitter(generated, true, mask)
    if protocol == "disco":
        found["disco_l1"] = disco_l1(generated, true)
        found["psnr_uint8_overflow"] = psnr_uint8_overflow(generated, true)
    return {name: Mean.of(values).value for name, values in found.items()}


@dataclass(frozen=True)
class Networks:
    """Networks of published metrics as functions of arrays.

    perceptual: (a, b) in [-1, 1] -> distances. frames, clips: features of FID; of FID-VID and FVD.
    """

    perceptual: Callable[[Any, Any], Any]
    frames: Callable[[Any], Any]
    resnet3d: Callable[[Any], Any]
    i3d: Callable[[Any], Any]

    @classmethod
    def read(cls, folder: Path) -> "Networks":
        """From files under their published names; `UserError` names one that is missing."""
        vgg = read_weights(folder, TRUNKS["vgg"]) | read_weights(folder, LINEAR["vgg"])
        inception, i3d, resnet = (read_weights(folder, f) for f in (INCEPTION, I3D, RESNET3D))
        return cls(
            lambda a, b: lpips("vgg", vgg, a, b),
            lambda frames: inception_features(inception, frames),
            lambda clips: resnet3d_features(resnet, clips),
            lambda clips: i3d_logits(i3d, clips),
        )

    def distances(self, generated: np.ndarray, truth: Truth) -> dict[str, float]:
        """LPIPS as it is meant, and of pictures in [0, 1] as in DisCo's tables."""
        found: dict[str, list[np.ndarray]] = {"lpips": [], "lpips_disco": []}
        for pair in zip(_chunks(generated), _chunks(truth.frames), strict=True):
            a, b = (jnp.asarray(x, jnp.float32) / 255 for x in pair)
            found["lpips"].append(np.asarray(self.perceptual(2 * a - 1, 2 * b - 1)))
            found["lpips_disco"].append(np.asarray(self.perceptual(a, b)))
        return {name: float(np.concatenate(parts).mean()) for name, parts in found.items()}

    def features(self, video: UInt8[np.ndarray, "f H W 3"]) -> Features:
        """Samples of one video, for the distances between sets; see `metrics/clips.py`."""
        seen = [np.asarray(self.frames(jnp.asarray(chunk))) for chunk in _chunks(video)]
        found = {"fid": np.concatenate(seen)}
        networks: tuple[tuple[str, Network, Callable], ...] = (
            ("fid_vid", "resnet3d", lambda clips: np.asarray(self.resnet3d(jnp.asarray(clips)))),
            ("fvd", "i3d", lambda clips: np.asarray(self.i3d(jnp.asarray(clips)))),
        )
        samplings: tuple[Sampling, ...] = ("overlapping", "per_video")
        for name, kind, network in networks:
            for sampling in samplings[len(video) < CLIP :]:
                found[f"{name}_{sampling}"] = video_features(kind, sampling, network, video)
        return found


def _chunks(video: np.ndarray) -> list[np.ndarray]:
    return np.split(video, range(CHUNK, len(video), CHUNK))


def set_distances(pairs: Sequence[tuple[Features, Features]]) -> dict[str, dict[str, float]]:
    """Frechet distances between all videos' samples, generated and true; with their numbers."""
    found = {}
    for name in pairs[0][0]:
        sides = [
            merged_gaussian(Gaussian.of(pair[side][name].astype(np.float64)) for pair in pairs)
            for side in (0, 1)
        ]
        if sides[0].count > 1:
            found[name] = {"value": frechet_distance(*sides), "n": sides[0].count}
    return found


def _values(rows: Iterable[Row], model: str, case: str, name: str) -> dict[int, float]:
    return {
        row.clip: row.metrics.get(name, float("nan"))
        for row in rows
        if (row.model, row.case) == (model, case)
    }


def summarise(rows: Sequence[Row], seed: int) -> list[dict[str, Any]]:
    """Per model, case and metric: mean over clips and its 95 % interval."""
    seen = dict.fromkeys((r.model, r.case, name) for r in rows for name in r.metrics)
    summary = []
    for model, case, name in seen:
        values = np.array(list(_values(rows, model, case, name).values()))
        known = values[np.isfinite(values)]
        if len(known):
            low, high = bootstrap_interval(known, seed)
            mean = {"mean": float(known.mean()), "low": low, "high": high, "n": len(known)}
            summary.append({"model": model, "case": case, "metric": name, **mean})
    return summary


def compare(rows: Sequence[Row], models: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """The first model less every other one, clip by clip, in each case."""
    found = []
    cases = dict.fromkeys((row.case, name) for row in rows for name in row.metrics)
    for other in models[1:]:
        for case, name in cases:
            ours, theirs = (_values(rows, model, case, name) for model in (models[0], other))
            if numbers := _difference(ours, theirs, seed):
                facts = {"ours": models[0], "theirs": other, "case": case, "metric": name}
                found.append(facts | numbers)
    return found


def corrupted(rows: Sequence[Row], seed: int) -> list[dict[str, Any]]:
    """Each case with wrong poses less the true poses, clip by clip, of each model."""
    found = []
    for model, case, name in dict.fromkeys((r.model, r.case, m) for r in rows for m in r.metrics):
        wrong, true = (_values(rows, model, which, name) for which in (case, TRUE))
        if case != TRUE and (numbers := _difference(wrong, true, seed)):
            found.append({"model": model, "case": case, "metric": name} | numbers)
    return found


def _difference(
    ours: Mapping[int, float], theirs: Mapping[int, float], seed: int
) -> dict[str, Any] | None:
    """Over clips that both have a number for; None where there are none."""
    shared = sorted(ours.keys() & theirs.keys())
    a, b = (np.array([side[clip] for clip in shared]) for side in (ours, theirs))
    difference = paired_difference(a, b, seed)
    if not difference.count:
        return None
    numbers = {"mean": difference.mean, "low": difference.low, "high": difference.high}
    return {**numbers, "n": difference.count, "clear": difference.clear}


def gate_metrics(
    weights: Mapping[str, np.ndarray], hit: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Gate weight per condition: over all frames, on intact ones and, where any, on wrong ones."""
    found = {f"gate_{name}": float(values.mean()) for name, values in weights.items()}
    for name, wrong in hit.items():
        found[f"gate_{name}_intact"] = Mean.of(weights[name][~wrong]).value
        found[f"gate_{name}_wrong"] = Mean.of(weights[name][wrong]).value
    return found
