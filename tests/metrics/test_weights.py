"""Weight files of metric networks: named when missing, refused when they are others."""

import numpy as np
import pytest

from realisdance_jax.metrics.i3d import I3D
from realisdance_jax.metrics.inception import INCEPTION
from realisdance_jax.metrics.lpips import LINEAR, TRUNKS
from realisdance_jax.metrics.resnet3d import RESNET3D
from realisdance_jax.metrics.weights import WeightFile, read_weights
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.torch_files.torchzip import write_torch_zip

SMALL = WeightFile(
    "small.pth", "small weights", "somewhere", {"a.weight": (4, 3, 2, 5), "a.bias": (4,)}, r"fc\..*"
)


def state() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {k: rng.normal(size=s).astype(np.float32) for k, s in SMALL.shapes.items()}


@pytest.mark.parametrize(
    "wanted", [I3D, INCEPTION, RESNET3D, *TRUNKS.values(), *LINEAR.values()], ids=lambda w: w.title
)
def test_a_missing_file_is_named(tmp_path, wanted):
    with pytest.raises(UserError) as caught:
        read_weights(tmp_path, wanted)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / wanted.filename}: expected {wanted.title}")
    assert wanted.source in message
    assert "\n" not in message


@pytest.mark.parametrize("wrapped", [False, True])
def test_kernels_are_turned_once_and_trained_classifiers_ignored(tmp_path, wrapped):
    tensors = state()
    extra = {"fc.weight": np.zeros((2, 2), np.float32), "bn.num_batches_tracked": np.array(3)}
    content = tensors | extra
    if wrapped:  # as DataParallel saves
        content = {"epoch": 9, "state_dict": {f"module.{k}": v for k, v in content.items()}}
    write_torch_zip(tmp_path / "other.pth", content)
    read = read_weights(tmp_path / "other.pth", SMALL)
    assert sorted(read) == sorted(tensors)
    np.testing.assert_array_equal(read["a.weight"], tensors["a.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(read["a.bias"], tensors["a.bias"])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"a.bias": np.zeros(5, np.float32)}, r"in it a.bias \(4,\), found \(5,\)"),
        ({"a.bias": None}, r"in it a.bias \(4,\), found no such tensor"),
        ({"b.bias": np.zeros(4, np.float32)}, "no other tensor, found 'b.bias' in it"),
    ],
)
def test_other_weights_are_refused(tmp_path, change, found):
    changed = {k: v for k, v in (state() | change).items() if v is not None}
    write_torch_zip(tmp_path / "small.pth", changed)
    with pytest.raises(UserError, match=found):
        read_weights(tmp_path, SMALL)
