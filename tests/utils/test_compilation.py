"""Compiled programs outlive the process, in a folder of the user's choice."""

import os
import subprocess
import sys
from pathlib import Path

import jax

from realisdance_jax.utils import compilation
from realisdance_jax.utils.compilation import loads_fast

PROGRAM = """
import jax
from realisdance_jax.utils import compilation

compilation.SHORTEST_SECONDS = 0.0
compilation.keep_compiled()
jax.jit(lambda x: x + 1).lower(1.0).compile()
"""


def files_after(tmp_path: Path, **environment: str) -> list[Path]:
    """Of the user's cache, after a program that compiles something."""
    clean = {key: value for key, value in os.environ.items() if "COMPILATION_CACHE" not in key}
    subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=Path(__file__).parents[2],
        env={**clean, "JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path), **environment},
        check=True,
        timeout=60,
    )
    return [path for path in tmp_path.rglob("*") if path.is_file()]


def test_programs_are_kept(tmp_path):
    files = files_after(tmp_path)
    assert files
    assert all(path.parts[-4:-2] == ("realisdance_jax", "compiled") for path in files)
    assert sorted(path.name for path in files_after(tmp_path)) == sorted(p.name for p in files)


def test_a_folder_of_the_users_choice_or_none(tmp_path):
    mine = tmp_path / "mine"
    files = files_after(tmp_path, JAX_COMPILATION_CACHE_DIR=str(mine))
    assert all(mine in path.parents for path in files)
    other = tmp_path / "other"
    assert not files_after(other, JAX_ENABLE_COMPILATION_CACHE="false")


def products(options) -> str:
    """The compiled text of a program of one product."""
    x = jax.numpy.ones((256, 256))
    return jax.jit(lambda x: x @ x).lower(x).compile(dict(options)).as_text()


def test_programs_that_load_fast_have_their_products_inside():
    assert "ynn_fusion" in products({})
    assert "ynn_fusion" not in products(loads_fast())


def test_options_that_the_compiler_does_not_know_are_left_out(monkeypatch):
    monkeypatch.setattr(compilation, "_LOADS_FAST", {"cpu": {"no_such_option": "1"}})
    loads_fast.cache_clear()
    assert loads_fast() == {}
    monkeypatch.undo()
    loads_fast.cache_clear()
    assert loads_fast()
