"""How much the gate of the pose guider trusts each condition (paper section 2)."""

from collections.abc import Sequence

import numpy as np

from realisdance_jax.shapes import Float, typechecked


@typechecked
def gate_weights(
    gates: Float[np.ndarray, "f h w k"], conditions: Sequence[str]
) -> dict[str, Float[np.ndarray, " f"]]:
    """Mean gate weight of each condition per frame, 0 to 1; `conditions` names the k in order.

    Raises `ValueError` when there are not k names.
    """
    if len(conditions) != gates.shape[-1]:
        raise ValueError(f"expected {gates.shape[-1]} names, found {len(conditions)}")
    means = gates.astype(np.float64).mean(axis=(1, 2))
    return {name: means[:, i] for i, name in enumerate(conditions)}
