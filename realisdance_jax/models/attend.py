"""The arithmetic of attention in four ways that give one result, chosen by platform and shape.

Queries come in groups that share keys: `b` clips, `g` groups (frames of a spatial layer, pixels of
a temporal one), `n` queries. A group has `own` keys, a clip has `shared` ones (the reference, or
image tokens); a query sees both sets as one (parity.md: H24).

xla      everything at once; the reference
chunked  at most `logit_bytes()` of logits at a time, computed again in the backward pass
cudnn    the fused kernel of NVIDIA GPUs, half precision only
flash    the Pallas kernels of TPUs, head widths up to 128: splash for inference, flash to train

For inference the kernels take the two sets apart (parts.py), so that shared keys are never copied
per group; to train, they make one call over both (parity.md: H24).
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange

from realisdance_jax.models.compute import ONE_DEVICE, Compute
from realisdance_jax.models.kernels import (
    cudnn_fits,
    cudnn_part,
    cudnn_rows,
    flash_fits,
    flash_rows,
    splash_fits,
    splash_part,
)
from realisdance_jax.models.parts import dense_part, in_parts, merge
from realisdance_jax.shapes import Array, Bool, Float, typechecked

LOGIT_BYTES = 256 * 2**20
"""Above this many bytes of float32 logits on a device, they are made in parts."""

CPU_LOGIT_BYTES = 8 * 2**20
"""The same on a CPU: what its caches hold. All at once takes up to six times as long there."""

KeyValue = tuple[Array, Array]
"""Keys and values of one shape."""


def logit_bytes(compute: Compute) -> int:
    """How many bytes of logits may be there at once."""
    return CPU_LOGIT_BYTES if compute.platform == "cpu" else LOGIT_BYTES


class Sizes(NamedTuple):
    """Sizes on one device: clips, groups, queries, own and shared keys, heads, head width."""

    b: int
    g: int
    n: int
    own: int
    shared: int
    heads: int
    width: int

    @property
    def query_bytes(self) -> int:
        """Of one query's logits."""
        return 4 * self.heads * (self.own + self.shared)

    @property
    def bytes(self) -> int:
        """Of all logits."""
        return self.b * self.g * self.n * self.query_bytes


@typechecked
def attend(
    q: Float[Array, "b g n k d"],
    own: tuple[Float[Array, "b g m k d"], Float[Array, "b g m k d"]] | None = None,
    shared: tuple[Float[Array, "b s k d"], Float[Array, "b s k d"]] | None = None,
    keep: Bool[Array, "b"] | None = None,
    compute: Compute = ONE_DEVICE,
    groups: str = "frames",
) -> Float[Array, "b g n k d"]:
    """softmax(q k^T / sqrt(d)) v over own and shared keys, logits and softmax in float32.

    Args:
      keep: clips that see the shared keys; all if None. Needs own keys.
      groups: what `g` counts, frames or pixels: the axis that a mesh spreads.

    At least one of `own` and `shared` is given.
    """
    if compute.mesh is None or compute.mesh.size == 1:
        return _local(q, own, shared, keep, compute)
    spec = compute.spec(q.shape, "batch", groups, None, "heads", None)
    kind = choose(_sizes(q, own, shared), compute, compute.ways(spec))
    if kind == "xla":
        return _dense(q, own, shared, keep)
    batch, heads = spec[0], spec[3]
    of_shared = jax.sharding.PartitionSpec(batch, None, heads, None)
    specs = (spec, spec, of_shared, jax.sharding.PartitionSpec(batch))
    run = partial(_local, compute=compute)
    mesh = compute.mesh
    mapped = jax.shard_map(run, mesh=mesh, in_specs=specs, out_specs=spec, check_vma=False)
    return mapped(q, own, shared, keep)


def choose(sizes: Sizes, compute: Compute, ways: int = 1) -> str:
    """Which of the four ways `sizes`, spread over `ways` devices, are computed."""
    keys, wanted = sizes.own + sizes.shared, compute.attention
    odd = bool(sizes.n % 2) and compute.training
    if compute.training:
        fits = flash_fits(sizes.n, keys, sizes.width)
    else:
        fits = splash_fits(sizes.n, sizes.own, sizes.shared, sizes.width)
    flash = compute.platform == "tpu" and fits
    cudnn = compute.platform == "gpu" and cudnn_fits(compute, sizes.width) and not odd
    if flash and (wanted == "flash" or (wanted == "auto" and keys >= 1024)):
        return "flash"
    if cudnn and wanted in ("cudnn", "auto") and sizes.n >= 64:
        return "cudnn"
    if wanted == "xla" or sizes.bytes <= logit_bytes(compute) * ways:
        return "xla"
    return "chunked"


def _sizes(q: Array, own: KeyValue | None, shared: KeyValue | None) -> Sizes:
    b, g, n, heads, width = q.shape
    m = 0 if own is None else own[0].shape[2]
    s = 0 if shared is None else shared[0].shape[1]
    return Sizes(b, g, n, m, s, heads, width)


def _local(
    q: Array, own: KeyValue | None, shared: KeyValue | None, keep: Array | None, compute: Compute
) -> Array:
    """On one device."""
    sizes = _sizes(q, own, shared)
    kind = choose(sizes, compute)
    if kind == "xla":
        return _dense(q, own, shared, keep)
    if kind == "chunked":
        return _chunked(q, own, shared, keep, sizes, logit_bytes(compute))
    if not compute.training:
        return in_parts(q, own, shared, keep, splash_part if kind == "flash" else cudnn_part)
    k, v = joined_keys(q.shape[1], own, shared)
    shape, seen = q.shape, None if keep is None else jnp.repeat(keep, q.shape[1])
    q, k, v = (rearrange(x, "b g n k d -> (b g) n k d") for x in (q, k, v))
    if kind == "flash":
        return flash_rows(q, k, v, sizes.own, seen).reshape(shape)
    return cudnn_rows(q, k, v, sizes.own, seen).reshape(shape)


def joined_keys(groups: int, own: KeyValue | None, shared: KeyValue | None) -> KeyValue:
    """Own keys `b g m k d`, then the clip's shared ones, copied for each group."""
    if shared is None:
        assert own is not None
        return own
    k, v = (jnp.repeat(x[:, None], groups, axis=1) for x in shared)
    if own is None:
        return k, v
    k = jnp.concatenate([own[0], k.astype(own[0].dtype)], axis=2)
    return k, jnp.concatenate([own[1], v.astype(own[1].dtype)], axis=2)


def _dense(q: Array, own: KeyValue | None, shared: KeyValue | None, keep: Array | None) -> Array:
    """`... g n k d`; shared keys serve all groups without a copy."""
    scale = 1.0 / math.sqrt(q.shape[-1])
    product = partial(jnp.einsum, preferred_element_type=jnp.float32)
    logits = []
    if own is not None:
        logits.append(product("...gnkd,...gmkd->...gknm", q, own[0]) * scale)
    if shared is not None:
        of_shared = product("...gnkd,...skd->...gkns", q, shared[0].astype(q.dtype)) * scale
        if keep is not None:
            of_shared = jnp.where(keep[..., None, None, None, None], of_shared, -jnp.inf)
        logits.append(of_shared)
    weights = jax.nn.softmax(jnp.concatenate(logits, axis=-1), axis=-1).astype(q.dtype)
    if own is None:
        assert shared is not None
        return jnp.einsum("...gkns,...skd->...gnkd", weights, shared[1].astype(q.dtype))
    count = own[1].shape[-3]
    y = jnp.einsum("...gknm,...gmkd->...gnkd", weights[..., :count], own[1])
    if shared is None:
        return y
    values = shared[1].astype(q.dtype)
    return y + jnp.einsum("...gkns,...skd->...gnkd", weights[..., count:], values)


def largest_divisor(n: int, most: int, multiple: int = 1) -> int:
    """Largest divisor of `n` up to `most` that is a multiple of `multiple`; 0 if none is."""
    fitting = (size for size in range(multiple, min(n, most) + 1, multiple) if n % size == 0)
    return max(fitting, default=0)


def _merged(q: Array, own: KeyValue | None, shared: KeyValue | None, keep: Array | None) -> Array:
    """As `_dense`, queries `r n k d`; logits of all keys are never side by side."""
    if own is None or shared is None:
        return _dense(q, own, shared, keep)
    # To the shared keys, the queries of all groups are one long row: no copy per group.
    y, lse = dense_part(rearrange(q, "r n k d -> (r n) k d"), *shared)
    of_shared = y.reshape(q.shape), lse.reshape(q.shape[:-1])
    return merge(dense_part(q, *own), of_shared, keep).astype(q.dtype)


def _chunked(
    q: Array,
    own: KeyValue | None,
    shared: KeyValue | None,
    keep: Array | None,
    sizes: Sizes,
    most: int,
) -> Array:
    """Some clips at a time or, where one is too long, parts of its groups, or of their queries.

    most: bytes of logits at once.
    """
    fitting = max(1, most // sizes.query_bytes)
    queries = largest_divisor(sizes.n, fitting)
    groups = largest_divisor(sizes.g, fitting // sizes.n) if queries == sizes.n else 1
    clips = largest_divisor(sizes.b, fitting // (sizes.n * sizes.g))

    def one_clip(clip):
        q, own, shared, keep = clip

        def one_part(part):
            q, own = part

            @jax.checkpoint
            def one_chunk(q):
                return _merged(q, own, shared, keep)

            chunks = rearrange(q, "r (i n) k d -> i r n k d", n=queries)
            done = jax.lax.map(one_chunk, chunks)
            return rearrange(done, "i r n k d -> r (i n) k d")

        parts = jax.tree.map(lambda x: rearrange(x, "(i r) m k d -> i r m k d", r=groups), (q, own))
        return rearrange(jax.lax.map(one_part, parts), "i r n k d -> (i r) n k d")

    return jax.lax.map(one_clip, (q, own, shared, keep), batch_size=max(1, clips))
