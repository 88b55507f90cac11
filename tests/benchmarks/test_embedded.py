"""The recipe of the embedded weights: what it refuses, what it remembers, what it passes over."""

import pytest

from benchmarks import embedded
from benchmarks.embedded import BUDGETS, Step, check_budget, make_steps, run_steps
from realisdance_jax.utils.errors import UserError

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


def test_ablations_learn_as_long_as_ours():
    """The common part and what follows it: as many steps in the image stage for every model."""
    steps = {step.name: " ".join(step.words) for step in make_steps(BUDGETS["cpu"], ablations=True)}

    def count(name: str) -> int:
        return int(steps[name].split("--config.train.steps=")[1].split()[0])

    for name in ("ours_image", "no_gate_image", "no_hamer_image"):
        assert count("first_image") + count(name) == count("base_image")
    names = ("ours", "base", "no_gate", "no_hamer", "no_pose_motion", "no_shuffle")
    assert len({count(name) for name in names}) == 1
