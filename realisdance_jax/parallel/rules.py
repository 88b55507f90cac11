"""What the names on the parameters' axes mean on a mesh. Models name axes; only this file maps.

`fsdp` takes the side that a layer reads from, `tensor` the side that it writes to (or the heads),
so that a kernel is cut along both. A mesh axis serves one axis of an array, the earliest rule wins:
the time embedding (`embed`, `time`) is cut along `embed` alone.
"""

RULES: tuple[tuple[str, str | None], ...] = (
    ("embed", "fsdp"),
    ("heads", "tensor"),
    ("mlp", "tensor"),
    ("embed_out", "tensor"),
    ("conv_in", "fsdp"),
    ("conv_out", "tensor"),
    ("time", "fsdp"),
    ("norm", None),
    ("token", None),
    ("conv_h", None),
    ("conv_w", None),
)
"""Logical axis -> mesh axis, None for a whole copy everywhere; as Flax's logical rules want it."""

LOGICAL_AXES = tuple(name for name, _ in RULES)
"""Every name that a parameter's axis may carry."""
