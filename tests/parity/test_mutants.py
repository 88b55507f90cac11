"""Six seeded mistakes: each, made in a copy of the package, must turn a parity test red."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.parity.report import FORWARD, SAMPLING

ROOT = Path(__file__).parents[2]
ISOLATED = "tests/parity/test_isolated.py"
LEFT_OUT = shutil.ignore_patterns("__pycache__", "golden")


@dataclass(frozen=True)
class Mutant:
    """In `file`, the one place that reads `right` becomes `wrong`; `test` then says `failure`."""

    file: str
    right: str
    wrong: str
    test: str
    failure: str


def row(name: str, bound: float = FORWARD) -> str:
    """A row of the parity table above its bound."""
    return rf"{re.escape(name)}: (\d\.\d\de[+-]\d\d) > {re.escape(f'{bound:.2e}')}"


MUTANTS = {
    "tanh-GELU": Mutant(
        "models/layers.py",
        "y = value * nn.gelu(gate, approximate=False)",
        "y = value * nn.gelu(gate, approximate=True)",
        f"{ISOLATED}::test_transformer",
        row("stage1/unit_transformer_out from official tokens"),
    ),
    "one wrong eps": Mutant(
        "models/transformer.py",
        "GroupNorm(self.groups, eps=1e-6,",
        "GroupNorm(self.groups, eps=1e-5,",
        f"{ISOLATED}::test_damped_unet",
        row("damped/ref_out_t from official tokens"),
    ),
    "pose added out of place": Mutant(
        "models/unet.py",
        "x = own_skips[-1] = x + pose[i + 1]",
        "x = x + pose[i + 1]",
        f"{ISOLATED}::test_first_up_block_of_the_main_unet",
        row("stage1/main_up_blocks.0 from official parts"),
    ),
    "per-frame GroupNorm": Mutant(
        "models/resnet.py",
        "eps=1e-5, over_frames=True,",
        "eps=1e-5, over_frames=False,",
        f"{ISOLATED}::test_resnet_of_frames",
        row("stage2/unit_resnet_out alone"),
    ),
    "DDIM stepping down its list": Mutant(
        "diffusion/ddim.py",
        "return timesteps - config.num_train_timesteps // len(timesteps)",
        "return np.append(timesteps[1:], -1).astype(timesteps.dtype)",
        "tests/parity/test_tables.py::test_ten_ddim_steps_and_warm_up",
        row("schedule/ddim10_prev_sample", SAMPLING),
    ),
    "swapped reference banks": Mutant(
        "models/unet.py",
        """                features[transformer.block.key]
            )""",
        """                features[{
                    (a := "down_blocks.0.attentions.0.transformer_blocks.0"):
                        (b := "down_blocks.0.attentions.1.transformer_blocks.0"),
                    b: a,
                }.get(transformer.block.key, transformer.block.key)]
            )""",
        f"{ISOLATED}::test_first_block_of_the_main_unet",
        row("stage1/main_down_blocks.0 from official parts"),
    ),
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package and its tests, elsewhere."""
    for folder in ("realisdance_jax", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=LEFT_OUT)
    (tmp_path / "tests" / "golden").symlink_to(ROOT / "tests" / "golden")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run_tests(copy: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """pytest on the copy alone, which precedes an installed package on the path."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
    command = (sys.executable, "-m", "pytest", "-q", "-rf", "-p", "no:cacheprovider", *tests)
    return subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, check=False)


def test_unmutated_copy_passes(copy):
    tests = sorted({mutant.test for mutant in MUTANTS.values()})
    result = run_tests(copy, *tests)
    assert result.returncode == 0, result.stdout
    assert f"{len(tests)} passed" in result.stdout


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_turns_a_parity_test_red(name, copy):
    mutant = MUTANTS[name]
    file = copy / "realisdance_jax" / mutant.file
    source = file.read_text("utf-8")
    assert source.count(mutant.right) == 1, f"{mutant.file} has changed: update this mutant"
    file.write_text(source.replace(mutant.right, mutant.wrong), "utf-8")
    result = run_tests(copy, mutant.test)
    assert result.returncode == 1, result.stdout
    assert f"FAILED {mutant.test} - AssertionError" in result.stdout, result.stdout
    assert re.search(mutant.failure, result.stdout), result.stdout
    assert "1 failed in" in result.stdout, result.stdout
