"""The recipe of the embedded weights: what it refuses, what it remembers, what it passes over."""

import sys

import pytest
from absl import flags
from ml_collections import ConfigDict

from benchmarks import embedded
from benchmarks.claims import SHORT
from benchmarks.embedded import (
    BUDGETS,
    NEARLY_NOISE,
    ROOT,
    Step,
    check_budget,
    make_steps,
    run_steps,
)
from realisdance_jax.config import ABLATIONS
from realisdance_jax.training.recipe import Recipe
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.flags import config_flag

DEVICE = "TPU v9"


def test_every_call_is_timed_also_one_that_fails(tmp_path):
    failing = [Step("there", ("this",), "there.txt"), Step("failing", ("no_such_module",))]
    (tmp_path / "there.txt").touch()
    with pytest.raises(UserError, match="failing: expected its command to succeed"):
        run_steps(failing, tmp_path, DEVICE)
    (line,) = (tmp_path / "times.tsv").read_text().splitlines()
    name, seconds, device = line.split("\t")
    assert (name, device) == ("failing", DEVICE)
    assert float(seconds) >= 0


def test_the_long_budget_is_not_begun_without_an_accelerator(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "devices_of_commands", lambda: "cpu")
    monkeypatch.setattr("sys.argv", ["embedded", "--out", str(tmp_path / "out")])
    with pytest.raises(UserError, match=r"expected a GPU or TPU, found cpu .*BUDGET=cpu"):
        embedded.main()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("prepared", "reason"),
    [
        (lambda out: out.write_text(""), "expected a folder to write to, found the file"),
        (lambda out: check_budget(out, "cpu"), "expected budget cpu, with which it was begun"),
    ],
)
def test_another_place_or_budget_is_refused(prepared, reason, tmp_path, monkeypatch):
    prepared(tmp_path / "out")
    words = ["embedded", "--out", str(tmp_path / "out"), "--budget", "smoke"]
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setattr(embedded, "devices_of_commands", lambda: "cpu")
    with pytest.raises(UserError, match=reason):
        embedded.main()


def recipe() -> dict[str, tuple[str, ...]]:
    return {step.name: step.words for step in make_steps(BUDGETS["cpu"], ablations=True)}


def begins_with(name: str) -> str:
    words = recipe()[name]
    return words[words.index("--init") + 1]


def test_ablations_learn_as_long_as_what_they_are_held_against():
    """The common part and what follows it: as many steps in the image stage for every model."""
    steps = {name: " ".join(words) for name, words in recipe().items()}

    def count(name: str) -> int:
        return int(steps[name].split("--config.train.steps=")[1].split()[0])

    for name in ("ours_image", "no_gate_image", "no_hamer_image"):
        assert count("first_image") + count(name) == count("base_image")
    assert count("ours_end") == count("base_end")
    names = ("ours", "base", SHORT, *ABLATIONS)
    assert len({count(name) for name in names}) == 1


def test_only_ours_and_the_baseline_end_at_nearly_pure_noise():
    found = {name for name, words in recipe().items() if NEARLY_NOISE in words}
    assert found == {"ours_end", "ours", "base_end", "base"}
    others = (make_steps(BUDGETS[name], ablations=True) for name in ("accelerator", "smoke"))
    assert not [step for steps in others for step in steps if NEARLY_NOISE in step.words]


def test_stages_begin_with_the_result_of_the_one_before():
    inits = {name: begins_with(name) for name in ("ours", "ours_end", "ours_image", "base_image")}
    assert inits == {
        "ours": "OUT/ours_end",
        "ours_end": "OUT/ours_image",
        "ours_image": "OUT/ours_begun",
        "base_image": "OUT/decoder/weights",
    }
    for name in (SHORT, "no_pose_motion", "no_shuffle"):
        assert begins_with(name) == "OUT/ours_image"
    assert begins_with("no_hamer") == "OUT/no_hamer_image"


def read_config() -> ConfigDict:
    """Of the words in sys.argv, as `train` reads it."""
    values = flags.FlagValues()
    config = config_flag(values)
    for name in ("workdir", "init"):
        flags.DEFINE_string(name, None, name, flag_values=values)
    values(sys.argv)
    return config.value


@pytest.mark.parametrize("budget", BUDGETS)
def test_every_option_of_a_training_run_is_known(budget, monkeypatch):
    """So that a wrong one is not met hours later."""
    monkeypatch.chdir(ROOT)
    steps = make_steps(BUDGETS[budget], ablations=True)
    runs = [step.words for step in steps if step.words[0] == "realisdance_jax.train"]
    assert len(runs) >= 10
    for words in runs:
        monkeypatch.setattr("sys.argv", list(words))
        assert Recipe.of(read_config()).stage == (1 if "stage1" in words[2] else 2)


def test_without_an_end_the_image_stage_is_one_run():
    steps = {step.name: step.words for step in make_steps(BUDGETS["accelerator"], ablations=True)}
    images = {name for name in steps if name.endswith("_image")}
    assert images == {f"{name}_image" for name in ("ours", "base", "no_gate", "no_hamer")}
    assert not {SHORT, "ours_end"} & set(steps)
    assert "OUT/ours_image" in steps["no_shuffle"]
