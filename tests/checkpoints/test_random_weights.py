"""Random weights: no layer at zero, and folders that load."""

import numpy as np

from realisdance_jax.checkpoints.random_weights import random_variables
from realisdance_jax.models.config import PoseGuiderConfig
from tests.e2e.conftest import SMALL


def test_random_weights_leave_no_kernel_at_zero():
    """A layer that training starts at zero would hide all that comes before it."""
    variables = random_variables(SMALL, "pose_guider", 0)
    params = variables["params"]["pose_guider"]
    assert SMALL.pose != PoseGuiderConfig()
    kernels = [params[name]["kernel"] for name in params if name.endswith("out_proj")]
    assert len(kernels) == len(SMALL.unet.widths) + 1
    assert all(np.std(kernel) * kernel[..., 0].size ** 0.5 > 0.5 for kernel in kernels)
