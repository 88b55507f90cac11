"""Loaded weights and the networks that use them."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import realisdance_jax
from realisdance_jax.checkpoints.weights import Manifest, load_component, merge, read_manifest
from realisdance_jax.models.compute import Compute, exact_products
from realisdance_jax.models.dinov2 import DinoV2
from realisdance_jax.models.quantized import QuantizedType, quantize_kernels
from realisdance_jax.models.realisdance import COMPONENTS, RealisDance
from realisdance_jax.models.vae import VAE
from realisdance_jax.parallel.mesh import make_mesh
from realisdance_jax.sampling.compiled import Compiled
from realisdance_jax.sampling.exported import (
    Stored,
    Target,
    export_program,
    program_name,
    used_only,
)
from realisdance_jax.shapes import Array
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.records import to_json

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
RESTING = ("unet_ref",)
VAE_ENCODER = ("encoder", "quant_conv")
"""What denoising and decoding do without, of the model and of the VAE; and all of DINOv2."""

Network = Literal["model", "dino", "vae"]


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Weights on devices and what runs them. The VAE and DINOv2 compute in float32.

    quantize: how large kernels of the other networks are kept.
    compiled: programs of this and of earlier clips.
    estimates: of the memory that clips need, likewise (`memory.py`).
    recorded: where traced programs are put for a file; None keeps none. stored: programs of such a
    file, which are used instead of tracing.
    """

    manifest: Manifest
    model: RealisDance
    variables: dict
    dino: DinoV2
    dino_variables: dict
    vae: VAE
    vae_params: dict
    mesh: Mesh
    compiled: Compiled = field(default_factory=Compiled)
    estimates: dict = field(default_factory=dict)
    recorded: dict[str, Any] | None = None
    stored: Stored | None = None
    quantize: QuantizedType | None = None

    @property
    def conditions(self) -> tuple[str, ...]:
        """Conditions the model knows, in channel order."""
        return self.manifest.model.pose.conditions

    def everywhere(self, tree: Any) -> Any:
        """`tree` as arrays replicated over the mesh."""
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def on_host(self, x: Array) -> np.ndarray:
        """`x`, whole, on every host, whichever devices hold its parts."""
        if x.is_fully_addressable or x.is_fully_replicated:
            return np.asarray(x)
        return multihost_utils.process_allgather(x, tiled=True)

    def precision(self, network: Network = "model") -> AbstractContextManager:
        """What to trace a network in; DINOv2 and the VAE compute in float32."""
        return exact_products(self.model.compute.dtype if network == "model" else jnp.float32)

    def call(self, network: Network, method: str, *inputs: Any) -> Any:
        """Run a method of a network on its variables and `inputs`, jitted."""
        module, variables = {
            "model": (self.model, self.variables),
            "dino": (self.dino, self.dino_variables),
            "vae": (self.vae, self.vae_params),
        }[network]
        kind, arguments = f"{network} {method}", (variables, *inputs)

        def make() -> Any:
            is_vae = isinstance(module, VAE)
            pure = getattr(module, method) if is_vae else partial(module.apply, method=method)
            jitted = self.jitted(kind, pure, inputs)
            self.record(kind, jitted, arguments, inputs)
            return jitted

        with self.precision(network):
            program = self.compiled.get(kind, make, arguments)
        return program(*arguments)

    def jitted(self, kind: str, program: Callable, inputs: Any, out: Any = None) -> Any:
        """`program` jitted, or what `stored` has for these inputs in its place.

        inputs: all beside the weights. out: how results are spread; None leaves it to the compiler.
        """
        if self.stored:
            program = used_only(self.stored.find(program_name(kind, inputs)))
        return jax.jit(program) if out is None else jax.jit(program, out_shardings=out)

    def record(self, kind: str, jitted: Any, arguments: tuple, inputs: Any) -> None:
        """Put the program into `recorded`, where that is wanted."""
        if self.recorded is not None:
            name = program_name(kind, inputs)
            if name not in self.recorded:
                self.recorded[name] = export_program(jitted, *arguments)


def export_target(manifest: Manifest, dtype: str, mesh: Mesh) -> Target:
    """What the programs of a pipeline are made for."""
    model = json.dumps(to_json(manifest.model), sort_keys=True).encode()
    device = mesh.devices.flat[0]
    return Target(
        hashlib.sha256(model).hexdigest()[:16],
        dtype,
        device.platform,
        device.device_kind,
        mesh.size,
        mesh.shape["frames"],
        realisdance_jax.__version__,
        jax.__version__,
    )


def sampling_mesh(devices_per_window: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh of `load`. Raises `UserError` when `devices_per_window` does not divide it."""
    return make_mesh({"data": -1, "frames": devices_per_window}, devices)


def load(
    folder: str | Path,
    dtype: str = "float32",
    devices: Sequence[Any] | None = None,
    devices_per_window: int = 1,
    offload: bool | None = None,
    quantize: QuantizedType | None = None,
) -> Pipeline:
    """Read a weights folder made by `python -m realisdance_jax.convert to-jax`.

    Args:
      folder: the weights.
      dtype: what the networks but VAE and DINOv2 compute in, and store kernels in: float32 (exact:
        no TF32, no bfloat16 passes) or bfloat16.
      devices: windows are spread over them; all by default.
      devices_per_window: over how many devices one window is spread, by frames and pixels.
      offload: keep on the host what denoising has no use for (reference UNet, DINOv2, the VAE's
        encoder), and send it to the devices for the moment in which it runs. None: on GPUs and
        TPUs of one host.
      quantize: keep large kernels of all but VAE and DINOv2 in int8 or fp8, with a scale per output
        channel; an approximation.

    Raises `UserError` for an incomplete or damaged folder, and when `devices_per_window` does not
    divide the devices.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype: expected one of {', '.join(DTYPES)}, found {dtype!r}")
    if quantize not in (None, *get_args(QuantizedType)):
        expected = f"expected one of {', '.join(get_args(QuantizedType))}"
        raise UserError(f"quantize: {expected}, found {quantize!r}")
    manifest = read_manifest(folder)
    for name, option in (("image_encoder", "--image-encoder"), ("vae", "--vae or --base")):
        if name not in manifest.components:
            hint = f"convert again with {option}"
            raise UserError(f"{folder}: expected the component {name}, found none ({hint})")
    mesh = sampling_mesh(devices_per_window, devices)
    everywhere = NamedSharding(mesh, PartitionSpec())

    def component(name: str, kind: Any) -> dict[str, Any]:
        return load_component(folder, manifest, name, kind, everywhere)

    return assemble(manifest, dtype, mesh, component, offload, quantize)


def assemble(
    manifest: Manifest,
    dtype: str,
    mesh: Mesh,
    component: Callable[[str, Any], dict[str, Any]],
    offload: bool | None = None,
    quantize: QuantizedType | None = None,
) -> Pipeline:
    """A pipeline from weights of any source, else as `load`.

    component: variables by name, on the whole `mesh`, with kernels of the given dtype.
    """
    if offload is None:
        offload = offloads(mesh)

    def network(name: str) -> dict[str, Any]:
        variables = component(name, DTYPES[dtype])
        return quantize_kernels(variables, quantize) if quantize else variables

    # What leaves the devices again comes first, while there is room for it.
    parts = {name: network(name) for name in RESTING if not offload}
    for name in RESTING if offload else ():
        parts[name] = to_host(network(name))
    dino = component("image_encoder", jnp.float32)
    vae = component("vae", jnp.float32)["params"]
    if offload:
        dino = to_host(dino)
        vae |= {name: to_host(vae[name]) for name in VAE_ENCODER}
    parts |= {name: network(name) for name in COMPONENTS if name not in parts}
    return Pipeline(
        manifest,
        RealisDance(manifest.model, Compute(DTYPES[dtype], mesh=mesh)),
        merge(*parts.values()),
        DinoV2(manifest.model.dino, Compute(mesh=mesh)),
        dino,
        VAE(manifest.model.vae),
        vae,
        mesh,
        quantize=quantize,
    )


def offloads(mesh: Mesh) -> bool:
    """Whether weights that denoising has no use for are kept on the host unless wanted."""
    return mesh.devices.flat[0].platform != "cpu" and jax.process_count() == 1


def to_host(tree: Any) -> Any:
    """`tree` as NumPy arrays: a jitted call sends those to its devices that it uses, and there
    they are gone after it."""
    return jax.tree.map(np.asarray, tree)
