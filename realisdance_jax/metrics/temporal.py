"""Jitter of a generated video against the true one."""

import numpy as np

from realisdance_jax.shapes import Bool, Float, UInt8, typechecked


@typechecked
def temporal_jitter(
    generated: UInt8[np.ndarray, "f H W c"],
    truth: UInt8[np.ndarray, "f H W c"],
    mask: Bool[np.ndarray, "f H W"] | None = None,
) -> Float[np.ndarray, " t"]:
    """Mean absolute error of second differences over time, per inner frame; t = f - 2, 0 to 1020.

    The second difference x[t-1] - 2 x[t] + x[t+1] is the error that flickers: a wrong colour or a
    wrong texture that stays, or drifts evenly, adds nothing. 0 for the true video.
    mask: measured inside the masks of the three frames together; NaN where they are empty.
    Raises `ValueError` for fewer than three frames.
    """
    if len(truth) < 3:
        raise ValueError(f"expected at least three frames, found {len(truth)}")
    error = generated.astype(np.float64) - truth
    bent = np.abs(error[:-2] - 2 * error[1:-1] + error[2:]).mean(axis=-1)
    if mask is None:
        return bent.mean(axis=(1, 2))
    around = mask[:-2] | mask[1:-1] | mask[2:]
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is meant
        return (bent * around).sum(axis=(1, 2)) / around.sum(axis=(1, 2))


@typechecked
def motion_ratio(
    generated: UInt8[np.ndarray, "f H W c"], truth: UInt8[np.ndarray, "f H W c"]
) -> float:
    """Mean absolute frame difference over that of the true video; below 1 is stiff, above restless.

    NaN when the true video stands still. Raises `ValueError` for fewer than two frames.
    """
    if len(truth) < 2:
        raise ValueError(f"expected at least two frames, found {len(truth)}")
    ours, true = (np.abs(np.diff(x.astype(np.float64), axis=0)).mean() for x in (generated, truth))
    return float(ours / true) if true else float("nan")
