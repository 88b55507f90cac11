"""Attention back ends: `python -m benchmarks.attention --preset tiny|small|full`.

Each that the device has, by shape and precision: time of the forward pass, error against float64 on
some of the queries. Then the compiler's temporaries of one frame that reads its reference at
768x576, without running it.
"""

import argparse
import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import (
    Report,
    Row,
    finish,
    machine,
    make_parser,
    parse,
    program_bytes,
    seconds_of,
)
from benchmarks.presets import PRESETS
from realisdance_jax.models import attend as ways
from realisdance_jax.models.compute import Compute
from realisdance_jax.utils.errors import exit_on_user_error

KINDS = ("xla", "chunked", "cudnn", "flash")
DTYPES = ("float32", "bfloat16")
ASKED = 32
"""Queries that are computed in float64 as well."""
READER = (6912, 8, 40)
"""Queries of a frame at 768x576, as many own and as many reference keys; heads, head width."""
SHARE = 1 / 8


@contextlib.contextmanager
def logits_of_at_most(size: int) -> Iterator[None]:
    """So that small shapes are cut into chunks too."""
    before = ways.LOGIT_BYTES, ways.CPU_LOGIT_BYTES
    ways.LOGIT_BYTES, ways.CPU_LOGIT_BYTES = (min(size, most) for most in before)
    try:
        yield
    finally:
        ways.LOGIT_BYTES, ways.CPU_LOGIT_BYTES = before


def draw(shape: tuple[int, int, int, int], dtype: str) -> tuple[Any, ...]:
    """Queries `1 g n k d`, own K/V `1 g n k d`, shared K/V `1 n k d`."""
    groups, n, heads, width = shape
    random = np.random.default_rng(0)

    def noise(*axes: int) -> jax.Array:
        return jnp.asarray(random.standard_normal(axes, np.float32), dtype)

    own = tuple(noise(1, groups, n, heads, width) for _ in range(2))
    shared = tuple(noise(1, n, heads, width) for _ in range(2))
    return noise(1, groups, n, heads, width), own, shared


def exact(q: jax.Array, own: tuple, shared: tuple) -> np.ndarray:
    """The last group's first queries in float64, `n k d`."""
    asked = np.asarray(q[0, -1, :ASKED], np.float64)
    pairs = zip(own, shared, strict=True)
    k, v = (np.asarray(jnp.concatenate([o[0, -1], s[0]]), np.float64) for o, s in pairs)
    logits = np.einsum("nkd,mkd->knm", asked, k) / np.sqrt(q.shape[-1])
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("knm,mkd->nkd", weights, v)


def variants(shape: tuple[int, int, int, int], dtype: str) -> Iterator[tuple[str, Callable]]:
    """Name and jitted function of what takes `shape` here; kernels for inference and to train."""
    groups, n, heads, width = shape
    sizes = ways.Sizes(1, groups, n, n, n, heads, width)
    for kind in KINDS:
        for training in (False, True) if kind in ("cudnn", "flash") else (False,):
            compute = Compute(jnp.dtype(dtype), kind, training=training)
            if ways.choose(sizes, compute) == kind:
                way = ", to train" if training else ""
                run = functools.partial(ways.attend, compute=compute)
                yield f"{kind}{way}", jax.jit(lambda *args, run=run: run(*args))


def rows_of(shape: tuple[int, int, int, int], dtype: str, runs: int) -> Iterator[Row]:
    """One per back end."""
    groups, n, heads, width = shape
    args = draw(shape, dtype)
    wanted = exact(*args)
    flops = 2 * 2 * groups * n * 2 * n * heads * width
    whole = 4 * heads * groups * n * 2 * n
    with logits_of_at_most(whole // 8):
        for name, run in variants(shape, dtype):
            if name == "xla" and whole > 2**33:
                continue  # its logits alone would not leave room for the rest
            with jax.default_matmul_precision("highest" if dtype == "float32" else "default"):
                found = np.asarray(run(*args)[0, -1, :ASKED], np.float64)
                seconds = seconds_of(lambda run=run: run(*args), runs)
            error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
            label = f"{groups} x {n} x {2 * n}, {heads} heads x {width}, {dtype}: {name}"
            yield Row(label, seconds, flops, more={"error": float(error)})


def naive(q: jax.Array, own: tuple, shared: tuple) -> jax.Array:
    """`jax.nn` over the joined keys of one frame."""
    k, v = ways.joined_keys(1, own, shared)
    return jax.nn.dot_product_attention(q[:, 0], k[:, 0], v[:, 0])


def temporaries() -> dict[str, float]:
    """GiB of `READER` by way, float32, on this platform's compiler; and the chunked share."""
    n, heads, width = READER
    frame = jax.ShapeDtypeStruct((1, 1, n, heads, width), jnp.float32)
    clip = jax.ShapeDtypeStruct((1, n, heads, width), jnp.float32)
    found = {}
    for name, run in (
        ("naive", naive),
        ("xla", functools.partial(ways.attend, compute=Compute(attention="xla"))),
        ("chunked", functools.partial(ways.attend, compute=Compute(attention="chunked"))),
    ):
        compiled = jax.jit(run).lower(frame, (frame, frame), (clip, clip)).compile()
        found[name] = program_bytes(compiled)
    label = "temporaries, GiB, q 6912 x kv 13824 x 8 heads x 40 float32"
    numbers = {f"{label}: {name}": size / 2**30 for name, size in found.items()}
    share = found["chunked"] / found["naive"]
    return numbers | {f"temporaries, chunked / naive (at most {SHARE})": share}


def run(name: str, options: argparse.Namespace) -> Report:
    """All measurements of a preset."""
    preset = PRESETS[name]
    device = machine(preset.dtype)
    rows = [
        row
        for shape in preset.attention
        for dtype in DTYPES
        for row in rows_of(shape, dtype, options.runs)
    ]
    settings = {"queries": "groups x queries x keys, half of them shared by the groups"}
    return Report("attention", name, settings, device, rows, temporaries())


def main() -> None:
    options = parse(make_parser("attention", __doc__))
    finish(run(options.preset, options), options)


if __name__ == "__main__":
    exit_on_user_error(main)
