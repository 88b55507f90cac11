"""Models over scenes: sampled, measured, and a few of them kept to be looked at."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from realisdance_jax.data.dancer_hands import HandChoice
from realisdance_jax.data.images import hstack_panels
from realisdance_jax.data.transforms import crop_resize, dino_size, imagenet_normalise
from realisdance_jax.evaluation.gestures import gesture_metrics, scene_hands
from realisdance_jax.evaluation.journal import Journal
from realisdance_jax.evaluation.measure import (
    Features,
    Networks,
    Row,
    gate_metrics,
    pixel_metrics,
    set_distances,
)
from realisdance_jax.evaluation.protocols import (
    TRUE,
    EvalConfig,
    Scene,
    hit_frames,
    scene_inputs,
    scene_truth,
)
from realisdance_jax.metrics.gates import gate_weights
from realisdance_jax.metrics.identity import among_frames, to_reference
from realisdance_jax.sampling.config import SampleConfig
from realisdance_jax.sampling.pipeline import Pipeline, load
from realisdance_jax.sampling.sampler import sample_clip
from realisdance_jax.shapes import UInt8

Say = Callable[[str], None]
COPY = "copy of the reference"
"""The model that does nothing."""


@dataclass(frozen=True)
class Model:
    """name: unique, as reports call it. folder: weights."""

    name: str
    folder: Path


@dataclass
class Results:
    """rows: every number. videos: of shown scenes, by title and model. sets: distances by model."""

    rows: list[Row] = field(default_factory=list)
    videos: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    sets: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)


def run_models(
    models: Sequence[Model],
    scenes: Sequence[Scene],
    config: EvalConfig,
    sampling: SampleConfig,
    networks: Networks | None = None,
    shown: int = 3,
    dtype: str = "float32",
    say: Say = print,
    journal: Journal | None = None,
) -> Results:
    """Sample every scene by every model, with the same noise for all of them.

    A scene whose corruption a model cannot see (a condition it does not take) is left out for it.
    What the `journal` holds is measured again only where it is shown or `networks` look at it.
    """
    results = Results()
    hands = functools.cache(scene_hands)  # many renders, the same for all models
    features: dict[str, list[tuple[Features, Features]]] = {}
    for model in models:
        pipeline = load(model.folder, dtype)
        names = (TRUE, *pipeline.conditions)
        seen = [scene for scene in scenes if scene.case.split(" ")[0] in names]
        for number, scene in enumerate(seen, 1):
            looked_at = scene.number < shown or (networks is not None and scene.case == TRUE)
            row = journal.find(model.name, scene.case, scene.number) if journal else None
            if row is not None and not looked_at:
                results.rows.append(row)
                continue
            video, row = _one(
                pipeline, model.name, scene, config, sampling, networks, features, hands
            )
            results.rows.append(row)
            if journal:
                journal.add(row)
            place, quality = f"{number} of {len(seen)}", f"{row.metrics['psnr']:.2f} dB"
            say(f"{model.name}: {place}: clip {scene.number}, {scene.case}: {quality}")
            if scene.number < shown:
                title = f"clip {scene.number}, {scene.case}"
                results.videos.setdefault(title, {})[model.name] = video
    for scene in scenes:
        if scene.case != TRUE:
            continue
        truth = scene_truth(scene, config.size)
        still = np.repeat(truth.reference[None], len(truth.frames), axis=0)
        metrics = pixel_metrics(still, truth, config.protocol)
        if (found := hands(scene)) is not None:
            metrics |= gesture_metrics(still, found)
        if networks is not None:
            metrics |= networks.distances(still, truth)
            pair = networks.features(still), networks.features(truth.frames)
            features.setdefault(COPY, []).append(pair)
        results.rows.append(Row(COPY, scene.case, scene.number, metrics))
        start = f"clip {scene.number}, "
        for title in [title for title in results.videos if title.startswith(start)]:
            shown_first = {"reference": still, "truth": truth.frames}
            results.videos[title] = shown_first | results.videos[title]
    results.sets = {model: set_distances(pairs) for model, pairs in features.items()}
    return results


def identity_metrics(
    pipeline: Pipeline, video: UInt8[np.ndarray, "f H W 3"], reference: UInt8[np.ndarray, "H W 3"]
) -> dict[str, float]:
    """Cosines of what the model's image encoder makes of frames (its first token).

    identity: to the reference. identity_frames: among them, so that it knows no right character.
    """
    size = dino_size(reference.shape[:2])

    def embedding(picture: np.ndarray) -> np.ndarray:
        seen = imagenet_normalise(crop_resize(picture, size))[None]
        tokens = pipeline.call("dino", "__call__", pipeline.everywhere(seen))
        return pipeline.on_host(tokens)[0, 0].astype(np.float32)

    frames = np.stack([embedding(frame) for frame in video])
    kept = to_reference(frames, embedding(reference))
    return {"identity": float(kept.mean()), "identity_frames": among_frames(frames)}


def _one(
    pipeline: Pipeline,
    model: str,
    scene: Scene,
    config: EvalConfig,
    sampling: SampleConfig,
    networks: Networks | None,
    features: dict[str, list[tuple[Features, Features]]],
    hands: Callable[[Scene], tuple[HandChoice, ...] | None],
) -> tuple[np.ndarray, Row]:
    inputs = scene_inputs(scene, config.size, pipeline.conditions)
    truth = scene_truth(scene, config.size)
    seeded = dataclasses.replace(sampling, seed=sampling.seed + scene.number)
    animation = sample_clip(pipeline, inputs, seeded)
    video = np.stack([animation.frame(i) for i in range(len(animation.video))])
    metrics = pixel_metrics(video, truth, config.protocol)
    if (found := hands(scene)) is not None:
        metrics |= gesture_metrics(video, found)
    wrong = {name: hit_frames(scene, name) for name in pipeline.conditions}
    hit = {name: frames for name, frames in wrong.items() if frames.any()}
    metrics |= {f"wrong_{name}": float(frames.mean()) for name, frames in hit.items()}
    if pipeline.manifest.model.pose.kind == "gated":
        metrics |= gate_metrics(gate_weights(animation.gates, animation.conditions), hit)
    metrics |= identity_metrics(pipeline, video, truth.reference)
    if networks is not None and scene.case == TRUE:
        metrics |= networks.distances(video, truth)
        pair = networks.features(video), networks.features(truth.frames)
        features.setdefault(model, []).append(pair)
    return video, Row(model, scene.case, scene.number, metrics)


def side_by_side(videos: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Frames with the pictures of several videos next to each other."""
    return [hstack_panels(list(frames)) for frames in zip(*videos, strict=True)]
