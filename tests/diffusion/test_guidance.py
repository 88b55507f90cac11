"""Classifier-free guidance and its rescaling."""

import jax.numpy as jnp
import numpy as np

from realisdance_jax.diffusion.guidance import classifier_free_guidance, rescale_guidance


def outputs():
    draws = np.random.default_rng(0).standard_normal((2, 3, 4, 5, 6)).astype(np.float32)
    return jnp.asarray(draws[0]), jnp.asarray(draws[1] * 2 + 1)


def test_guidance_extrapolates():
    uncond, cond = outputs()
    np.testing.assert_allclose(classifier_free_guidance(uncond, cond, 1.0), cond, atol=1e-6)
    np.testing.assert_array_equal(classifier_free_guidance(uncond, cond, 0.0), uncond)
    twice = classifier_free_guidance(uncond, cond, 2.0)
    np.testing.assert_allclose(twice, 2 * cond - uncond, atol=1e-5)


def test_rescaling_matches_the_spread_of_each_sample():
    uncond, cond = outputs()
    cond = cond * jnp.asarray([0.1, 1.0, 10.0]).reshape(3, 1, 1, 1)
    guided = classifier_free_guidance(uncond, cond, 7.5)
    rescaled = rescale_guidance(guided, cond, 1.0)
    spread = np.asarray(rescaled).reshape(3, -1).std(axis=1)
    np.testing.assert_allclose(spread, np.asarray(cond).reshape(3, -1).std(axis=1), rtol=1e-5)


def test_rescaling_mixes_by_phi():
    uncond, cond = outputs()
    guided = classifier_free_guidance(uncond, cond, 3.0)
    np.testing.assert_array_equal(rescale_guidance(guided, cond, 0.0), guided)
    mixed = rescale_guidance(guided, cond, 0.7)
    expected = 0.7 * rescale_guidance(guided, cond, 1.0) + 0.3 * guided
    np.testing.assert_allclose(mixed, expected, atol=1e-5)
