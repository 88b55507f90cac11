"""Metric networks against frozen outputs of the torch networks, with random weights."""

import jax.numpy as jnp
import numpy as np
import pytest

from realisdance_jax.metrics.i3d import i3d_logits
from realisdance_jax.metrics.inception import inception_features
from realisdance_jax.metrics.lpips import lpips
from realisdance_jax.metrics.resnet3d import resnet3d_features
from realisdance_jax.metrics.weights import lay_out
from tests.metrics import networks

OURS = {
    "lpips_vgg": lambda params, a, b: lpips("vgg", params, a, b),
    "lpips_alex": lambda params, a, b: lpips("alex", params, a, b),
    "inception": inception_features,
    "i3d": i3d_logits,
    "resnet3d": resnet3d_features,
}


@pytest.mark.parametrize("network", OURS)
def test_network_is_the_torch_one(network):
    params = lay_out(networks.state(network))
    ours = OURS[network](params, *map(jnp.asarray, networks.inputs(network)))
    with np.load(networks.GOLDEN) as golden:
        theirs = golden[network]
    assert theirs.std() > 1e-2 * np.abs(theirs).max(), "a constant output shows nothing"
    bound = networks.TOLERANCE * np.abs(theirs).max()
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=0, atol=bound)


def test_equal_pictures_have_no_perceptual_distance():
    params = lay_out(networks.state("lpips_alex"))
    a, _ = map(jnp.asarray, networks.inputs("lpips_alex"))
    assert np.asarray(lpips("alex", params, a, a)).max() == 0


def test_longer_clips_than_the_published_network_took_are_refused():
    with pytest.raises(ValueError, match="at most 16 frames, found 17"):
        resnet3d_features({}, jnp.zeros((1, 17, 112, 112, 3)))
