"""Weights folders of random numbers, for tests and where only time is measured."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from realisdance_jax.checkpoints.variables import ALL_COMPONENTS, abstract_component
from realisdance_jax.checkpoints.weights import FORMAT, Manifest, save_component, write_manifest
from realisdance_jax.models.config import RealisDanceConfig
from realisdance_jax.models.motion import sinusoid_table
from realisdance_jax.utils.files import atomic_output


def random_variables(config: RealisDanceConfig, component: str, seed: int) -> dict:
    """Random kernels everywhere, the layers that training starts at zero included.

    Drawn on the host: the networks' own initialisers would each be compiled first.
    """
    generator = np.random.default_rng(seed)

    def draw(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1] == "pe":
            return sinusoid_table(*leaf.shape[1:])
        if leaf.ndim > 1:
            # No norm keeps signals alive through the pose encoders, and SiLU halves small ones.
            gain = np.float32(1.6 if {"backbone", "gate_module"} & {*path} else 1)
            values = generator.standard_normal(leaf.shape, np.float32)
            return values * gain / np.sqrt(values[..., 0].size, dtype=np.float32)
        return np.full(leaf.shape, path[-1] != "bias", np.float32)

    return dict(traverse_util.path_aware_map(draw, dict(abstract_component(config, component))))


def write_random_weights(folder: Path, config: RealisDanceConfig, seed: int = 0) -> None:
    """A weights folder of networks with random weights."""
    hashes = {}
    with atomic_output(folder) as draft:
        draft.mkdir()
        for i, name in enumerate(ALL_COMPONENTS):
            variables = random_variables(config, name, seed + i)
            hashes[name] = save_component(draft, name, variables)
        manifest = Manifest(FORMAT, config, components=hashes, fresh=ALL_COMPONENTS)
        write_manifest(draft, manifest)
