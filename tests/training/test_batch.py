"""Random choices of a step: streams, pose shuffle, unconditional drop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realisdance_jax.training.batch import copied_order, draw, reorder, shuffled_order
from realisdance_jax.utils.rng import stream

SHAPE = (4, 16, 6, 5, 4)


def one_draw(seed=1, step=7, **rates):
    options = {"drop": 0.5, "shuffle": 0.5} | rates
    return draw(seed, jnp.int32(step), SHAPE, 3, 1000, options["drop"], options["shuffle"])


def test_draws_depend_on_seed_and_step_only():
    again = one_draw()
    for name, value in one_draw()._asdict().items():
        np.testing.assert_array_equal(value, getattr(again, name))
    for other in (one_draw(seed=2), one_draw(step=8)):
        assert not np.array_equal(other.noise, again.noise)
        assert not np.array_equal(other.t, again.t)


def test_streams_do_not_share_numbers():
    names = ("timestep", "noise", "drop", "shuffle", "posterior", "reference")
    values = [float(jax.random.normal(stream(0, name, 3))) for name in names]
    assert len(set(values)) == len(names)


def test_timesteps_are_uniform_over_all():
    draws = draw(0, jnp.int32(0), (4000, 1, 1, 1, 1), 3, 1000, 0.1, 0.0)
    assert 0 <= int(draws.t.min()) < 10
    assert 990 <= int(draws.t.max()) <= 999
    assert abs(float(draws.keep.mean()) - 0.9) < 0.02


def test_timesteps_begin_where_they_are_told_to():
    draws = draw(0, jnp.int32(0), (4000, 1, 1, 1, 1), 3, 1000, 0.1, 0.0, least_timestep=800)
    assert 800 <= int(draws.t.min()) < 803
    assert 997 <= int(draws.t.max()) <= 999


def test_swap_is_a_true_swap_per_example_and_condition():
    order = np.asarray(shuffled_order(jax.random.key(0), 4000, 3, 8, 0.05))
    np.testing.assert_array_equal(np.sort(order, -1), np.broadcast_to(np.arange(8), order.shape))
    moved = (order != np.arange(8)).sum(-1)
    assert set(np.unique(moved)) == {0, 2}
    assert abs((moved == 2).mean() - 0.05) < 0.006
    both = (moved[:, 0] == 2) & (moved[:, 1] == 2)
    assert both.mean() < 0.006, "conditions must draw independently"


def test_copy_is_the_released_rule():
    """One frame over another, never frame 0 overwritten, alike in the whole batch (H10)."""
    frames, overwritten = 5, set()
    for seed in range(60):
        order = np.asarray(copied_order(jax.random.key(seed), 3, 3, frames, 1.0))
        assert (order == order[:1]).all()
        for row in order[0]:
            changed = np.flatnonzero(row != np.arange(frames))
            assert len(changed) <= 1
            overwritten |= set(changed.tolist())
    assert overwritten == {1, 2, 3, 4}


@pytest.mark.parametrize("order", [shuffled_order, copied_order])
@pytest.mark.parametrize("frames", [1, 2])
def test_rate_zero_and_single_frames_change_nothing(order, frames):
    still = order(jax.random.key(0), 2, 3, frames, 0.0 if frames > 1 else 1.0)
    np.testing.assert_array_equal(still, np.broadcast_to(np.arange(frames), (2, 3, frames)))


def test_reorder_moves_whole_frames_of_one_condition():
    conditions = jnp.arange(2 * 3 * 9, dtype=jnp.float32).reshape(2, 3, 1, 1, 9)
    order = jnp.array([[[0, 1, 2], [2, 1, 0], [0, 1, 2]], [[1, 0, 2], [0, 1, 2], [0, 1, 2]]])
    moved = np.asarray(reorder(conditions, order))
    np.testing.assert_array_equal(moved[0, :, ..., 3:6], conditions[0, ::-1, ..., 3:6])
    np.testing.assert_array_equal(moved[0, :, ..., :3], conditions[0, ..., :3])
    np.testing.assert_array_equal(moved[1, 0, ..., :3], conditions[1, 1, ..., :3])
    np.testing.assert_array_equal(moved[1, ..., 3:], conditions[1, ..., 3:])
