"""Metric networks in torch, live, with random weights, against the frozen outputs.

`python -m tests.cross.test_metrics` writes what they compute to tests/golden/metric_networks.npz,
which tests/metrics/test_networks.py reads.
"""

import numpy as np
import pytest

from tests.metrics import networks

pytestmark = pytest.mark.torch


def tensors(network: str) -> dict:
    import torch

    return {name: torch.from_numpy(np.array(x)) for name, x in networks.state(network).items()}


def run(model, *arrays: np.ndarray) -> np.ndarray:
    """Output of a torch model for arrays with channels last."""
    import torch

    if arrays[0].dtype == np.uint8:
        arrays = tuple(x.astype(np.float32) / 255 for x in arrays)
    with torch.no_grad():
        out = model.eval()(*(torch.from_numpy(np.moveaxis(x, -1, 1).copy()) for x in arrays))
    return out.numpy()


def theirs(network: str) -> np.ndarray:
    """Output of the torch network."""
    from tests.cross import metric_networks, metric_networks_3d

    model = {
        "lpips_vgg": lambda: metric_networks.LPIPS("vgg"),
        "lpips_alex": lambda: metric_networks.LPIPS("alex"),
        "inception": metric_networks.FIDInception,
        "i3d": lambda: metric_networks_3d.I3D(networks.DIVISOR),
        "resnet3d": lambda: metric_networks_3d.ResNet3D(networks.DIVISOR),
    }[network]()
    missing, unexpected = model.load_state_dict(tensors(network), strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    return run(model, *networks.inputs(network))


@pytest.mark.parametrize("network", networks.SHAPES)
def test_golden_file_is_current(network):
    with np.load(networks.GOLDEN) as golden:
        frozen = golden[network]
    bound = 1e-5 * np.abs(frozen).max()
    np.testing.assert_allclose(frozen, theirs(network), rtol=0, atol=bound)


def test_full_width_names_are_those_of_the_published_networks():
    from realisdance_jax.metrics.i3d import I3D as OURS_I3D
    from realisdance_jax.metrics.resnet3d import RESNET3D
    from tests.cross.metric_networks_3d import I3D, ResNet3D

    for file, model in ((OURS_I3D, I3D()), (RESNET3D, ResNet3D())):
        state = {k: tuple(v.shape) for k, v in model.state_dict().items()}
        tracked = {k for k in state if k.endswith("num_batches_tracked")}
        assert file.shapes == {k: v for k, v in state.items() if k not in tracked}


if __name__ == "__main__":
    np.savez_compressed(networks.GOLDEN, **{name: theirs(name) for name in networks.SHAPES})
