"""Every configuration with every variant makes the typed parts of the training step."""

import ast
import dataclasses
import importlib.util
import math
import re
from pathlib import Path

import jax
import pytest

from realisdance_jax.checkpoints.variables import ALL_COMPONENTS, abstract_component, check_sizes
from realisdance_jax.data.config import DataConfig
from realisdance_jax.diffusion.schedule import ScheduleConfig
from realisdance_jax.models.config import RealisDanceConfig
from realisdance_jax.training.optim import OptimConfig
from realisdance_jax.training.recipe import Recipe
from realisdance_jax.training.step import LossConfig
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.records import from_json
from tests.refusals import refusal

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))


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


def model_of(path: str, argument: str) -> RealisDanceConfig:
    (file,) = [config for config in CONFIGS if config.name == path]
    values = get_config(file, argument).to_dict()
    assert values["data"]["conditions"] == values["model"]["pose"]["conditions"]
    return from_json(RealisDanceConfig, values["model"], "model")


def parameters(model: RealisDanceConfig) -> dict[str, int]:
    """Numbers to be trained, per component."""
    return {
        name: sum(math.prod(x.shape) for x in jax.tree.leaves(shapes["params"]))
        for name in ALL_COMPONENTS
        for shapes in [abstract_component(model, name)]
    }


@pytest.mark.parametrize(
    ("path", "argument"),
    [("stage2.py", "dancer"), ("animate_anyone.py", "stage2,dancer"), ("stage1.py", "dancer")],
)
def test_dancers_fit_into_twelve_megabytes_of_half_precision(path, argument):
    model = model_of(path, argument)
    check_sizes(model, path)
    counts = parameters(model)
    assert all(counts.values())
    assert 2 * sum(counts.values()) <= 12e6 - 150_000  # names and shapes take room, too


def test_the_baseline_differs_in_the_path_of_poses_alone():
    for argument in ("", "dancer", "released", "smoke"):
        ours = get_config(CONFIGS[-1], argument).to_dict()
        theirs = get_config(CONFIGS[0], ",".join(["stage2", argument])).to_dict()
        assert ours["data"].pop("conditions") == ("dwpose", "hamer", "smpl")
        assert theirs["data"].pop("conditions") == ("dwpose",)
        assert (ours["loss"].pop("shuffle"), theirs["loss"].pop("shuffle")) == (0.05, 0.0)
        different = {"kind", "conditions"}
        poses = [config["model"].pop("pose") for config in (ours, theirs)]
        assert {key for key in poses[0] if poses[0][key] != poses[1][key]} == different
        assert ours == theirs


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("stage1,stage2", "expected one of stage1 and stage2"),
        ("dancer,no_gate", "no_gate: expected a model with gating"),
        ("stage3", "found 'stage3'"),
    ],
)
def test_the_baseline_refuses(argument, reason):
    with pytest.raises(UserError, match=reason):
        get_config(CONFIGS[0], argument)


def test_ablations_combine_with_other_variants():
    config = get_config(CONFIGS[-1], "smoke,no_shuffle,no_gate,dancer")
    assert (config.model.pose.kind, config.loss.shuffle, config.train.steps) == ("ungated", 0, 10)
    assert config.data.sources == ("dancer",)
    assert Recipe.of(config).model.unet.widths == (32, 32)
    assert not model_of("stage2.py", "no_pose_motion").pose.motion
    assert model_of("stage2.py", "no_hamer").pose.conditions == ("dwpose", "smpl")


def test_data_and_model_name_the_same_conditions():
    config = get_config(CONFIGS[-1], "smoke")
    with config.unlocked():
        config.data.conditions = ("dwpose",)
    with pytest.raises(UserError, match="conditions: expected the model's"):
        Recipe.of(config)


def test_unknown_variants_raise_with_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'smoke'"):
        get_config(CONFIGS[0], "smok")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("loss.drop", 1.5, "drop: expected 0 to 1, found 1.5"),
        ("loss.drop", math.nan, "drop: expected 0 to 1, found nan"),
        ("loss.shuffle", -0.1, "shuffle: expected 0 to 1, found -0.1"),
        ("loss.snr_gamma", 0.0, "snr_gamma: expected above 0, found 0.0"),
        ("loss.least_timestep", 1000, "least_timestep: expected 0 to 999, found 1000"),
        ("loss.least_timestep", -1, "least_timestep: expected 0 to 999, found -1"),
        ("optim.weight_decay", -1.0, "weight_decay: expected at least 0, found -1.0"),
        ("optim.b1", 1.0, "b1: expected 0 or more and below 1, found 1.0"),
        ("optim.b2", -0.5, "b2: expected 0 or more and below 1, found -0.5"),
        ("data.frames", 33, "frames: expected 1 to 32 (model.motion.max_frames), found 33"),
        ("data.frames", 0, "frames: expected at least 1, found 0"),
    ],
)
def test_values_out_of_range_are_refused(key, value, expected):
    config = get_config(CONFIGS[-1])
    config.update_from_flattened_dict({key: value})
    assert refusal(Recipe.of, config) == f"config.{key.split('.')[0]}: {expected}"


def test_as_many_frames_as_the_motion_modules_know():
    config = get_config(CONFIGS[-1])
    config.data.frames = 32
    assert Recipe.of(config).data.frames == 32


def test_random_crops_have_a_key():
    config = get_config(CONFIGS[-1])
    assert Recipe.of(config).data.crop_ratio is None
    config.data.crop_ratio = (0.75, 1.25)
    assert Recipe.of(config).data.crop_ratio == (0.75, 1.25)


def test_every_field_of_the_data_has_a_key():
    """Or nobody could set it from the command line."""
    fields = {field.name for field in dataclasses.fields(DataConfig)}
    assert fields == set(get_config(CONFIGS[-1]).data.keys())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_headers_say_what_a_configuration_is_for(path):
    about = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    facts = dict(re.findall(r"^(\w+): +(\S.*)", about, re.MULTILINE))
    assert list(facts) == ["Command", "Hardware", "Expect", "Variants"]
    assert f"configs/{path.name}" in facts["Command"]
    results = re.findall(r"benchmarks/results/[\w.]+\w", about)
    assert all((ROOT / name).is_file() for name in results)
    assert results or "not measured" in facts["Hardware"]
