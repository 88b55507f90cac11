"""Every configuration with every variant makes the typed parts of the training step."""

import importlib.util
from pathlib import Path

import pytest

from realisdance_jax.data.config import DataConfig
from realisdance_jax.diffusion.schedule import ScheduleConfig
from realisdance_jax.models.config import RealisDanceConfig
from realisdance_jax.training.optim import OptimConfig
from realisdance_jax.training.step import LossConfig
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.records import from_json

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))


def get_config(path: Path, argument: str = ""):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("argument", ["", "smoke", "released", "released,smoke"])
def test_configurations_hold_what_the_code_takes(path, argument):
    config = get_config(path, argument)
    values = config.to_dict()
    model = from_json(RealisDanceConfig, values["model"], "model")
    from_json(ScheduleConfig, values["schedule"], "schedule")
    from_json(DataConfig, values["data"], "data")
    loss = from_json(LossConfig, values["loss"], "loss")
    optim = from_json(OptimConfig, values["optim"], "optim")
    assert (model.motion is not None) == (config.stage == 2)
    assert optim.lr == (1e-5 if "released" in argument else 5e-5)
    assert loss.shuffle_rule == ("copy" if "released" in argument else "swap")
    with pytest.raises(AttributeError, match="Did you mean"):
        config.optim.weight_decy = 0.1


def test_unknown_variants_raise_with_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'smoke'"):
        get_config(CONFIGS[0], "smok")
