"""Learning rate, AdamW against its formula, and which parameters train."""

import jax.numpy as jnp
import numpy as np
import pytest

from realisdance_jax.training.optim import (
    OptimConfig,
    learning_rate,
    make_optimizer,
    trainable_paths,
)
from realisdance_jax.utils.errors import UserError
from tests import golden_files


def test_warm_up_starts_at_zero_as_released():
    with np.load(golden_files.GOLDEN / "schedule.npz") as golden:
        official = golden["constant_with_warmup_5"]
    rate = learning_rate(OptimConfig(lr=1e-5, warmup_steps=5), 100)
    ours = [float(rate(k)) for k in range(len(official))]
    scale = 1.0 if official.max() < 0.1 else 1e-5
    np.testing.assert_allclose(ours, official * scale, rtol=1e-6)


def test_cosine_ends_at_zero():
    rate = learning_rate(OptimConfig(lr=1.0, schedule="cosine", warmup_steps=10), 110)
    assert float(rate(10)) == pytest.approx(1.0)
    assert float(rate(60)) == pytest.approx(0.5, abs=1e-6)
    assert float(rate(110)) == pytest.approx(0.0, abs=1e-7)


def test_adamw_is_its_formula():
    config = OptimConfig(lr=0.1, weight_decay=0.1, clip_norm=0.5)
    optimizer = make_optimizer(config, 10)
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(5, 3)).astype(np.float32)}
    state = optimizer.init({"w": jnp.asarray(params["w"])})
    w, m, v = params["w"].astype(np.float64), 0.0, 0.0
    for k in range(1, 6):
        grad = rng.normal(size=(5, 3))
        updates, state = optimizer.update({"w": jnp.asarray(grad, jnp.float32)}, state,
                                          {"w": jnp.asarray(w, jnp.float32)})  # fmt: skip
        clipped = grad * min(1.0, 0.5 / np.linalg.norm(grad))
        m, v = 0.9 * m + 0.1 * clipped, 0.999 * v + 0.001 * clipped**2
        step = (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.999**k)) + 1e-8)
        expected = -0.1 * (step + 0.1 * w)
        np.testing.assert_allclose(updates["w"], expected, rtol=2e-5, atol=1e-7)
        w = w + expected


PATHS = ("params/a/kernel", "params/a/motion_modules.0/kernel", "buffers/a/motion_modules.0/pe")


def test_buffers_never_train():
    table = ((r"motion_modules\.", "train"), ("", "frozen"))
    assert trainable_paths(PATHS, table) == [PATHS[1]]


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ((("motion", "train"),), "match no pattern, such as params/a/kernel"),
        ((("nothing", "train"), ("", "frozen")), "'nothing' matches none"),
        ((("", "frozen"),), "found none that does"),
    ],
)
def test_tables_must_cover_and_be_used(table, found):
    with pytest.raises(UserError, match=found):
        trainable_paths(PATHS, table)


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match="above 0"):
        OptimConfig(lr=0.0)
    with pytest.raises(ValueError, match="ema"):
        OptimConfig(ema=1.0)
