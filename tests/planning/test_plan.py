"""`plan` on simulated CPU devices, its figures, and what it says without a compiler."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import realisdance_jax.plan as plan_program
from realisdance_jax import __version__
from realisdance_jax.parallel.devices import chip_of
from realisdance_jax.parallel.mesh import make_mesh
from realisdance_jax.plan import source_hash
from realisdance_jax.planning.gpu_target import GPUS, target_config
from realisdance_jax.planning.programs import sample_program, train_program
from realisdance_jax.planning.report import (
    collectives,
    compiled_figures,
    markdown,
    quick_figures,
    roofline,
    shard_bytes,
    whole_bytes,
)
from realisdance_jax.planning.topology import Topology, parse_topology
from realisdance_jax.utils.errors import UserError
from tests.commands import run_program
from tests.e2e.train_call import ROOT, STAGE, environment
from tests.training.test_program import tiny


def plan(*options: str, cache) -> subprocess.CompletedProcess:
    config, *overrides = STAGE[2]
    command = [sys.executable, "-m", "realisdance_jax.plan", "--config", config, *overrides]
    return subprocess.run(
        [*command, *options],
        cwd=ROOT,
        env={**environment(), "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """The sampler's step on four devices, asked twice."""
    cache = tmp_path_factory.mktemp("cache")
    options = ("--topology", "cpu:4", "--sample", "--config.mesh.data=2", "--config.mesh.frames=2")
    first = plan(*options, "--json", str(cache / "a.json"), cache=cache)
    second = plan(*options, "--markdown", str(cache / "a.md"), cache=cache)
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    return json.loads((cache / "a.json").read_text()), first, second, (cache / "a.md").read_text()


def test_an_answer(answers):
    answer, first, second, page = answers
    assert answer["mesh"] == {"data": 2, "fsdp": 1, "frames": 2, "tensor": 1}
    assert answer["flops"] > 1e6
    assert answer["peak"] >= answer["arguments"] > 0
    assert answer["fits"] is None  # of a CPU nobody knows the memory
    assert sum(row["count"] for row in answer["collectives"].values()) > 0
    assert page.strip() == second.stdout.strip() == first.stdout.strip()


def test_the_second_answer_is_remembered(answers):
    assert "compiling" in answers[1].stderr
    assert "compiling" not in answers[2].stderr


def test_an_answer_names_the_code_it_is_of(answers):
    answer, _, _, page = answers
    assert answer["package"] == f"realisdance_jax {__version__} (sources {source_hash()})"
    assert answer["package"] in page


def test_other_code_has_another_hash(tmp_path):
    hashes = {source_hash(tmp_path)}
    for name, text in (("a.py", "x = 1"), ("a.py", "x = 2"), ("b.py", ""), ("notes.md", "x")):
        (tmp_path / name).write_text(text)
        hashes.add(source_hash(tmp_path))
    assert len(hashes) == 4  # notes are no code
    (tmp_path / "b.py").rename(tmp_path / "c.py")
    assert source_hash(tmp_path) not in hashes


ASKED = ("--config", f"{ROOT}/configs/stage2.py:smoke", "--topology", "v5e:2x2")


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """`plan` without compilers, on two devices that are not there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(plan_program, "prepare_compilers", lambda: None)
    topology = parse_topology("v5e:2x2", quick=True)
    monkeypatch.setattr(plan_program, "parse_topology", lambda *options: topology)
    planned = train_program(tiny(2, data=2, fsdp=2), topology.devices, False)
    monkeypatch.setattr(plan_program, "_planned", lambda *options: planned)
    # Each call parses its own flags.
    for flag in ("config", "topology", "sample", "cached", "quick", "fresh"):
        plan_program.FLAGS[flag].unparse()
    yield
    for flag in ("config", "topology", "sample", "cached", "quick", "fresh"):
        plan_program.FLAGS[flag].unparse()


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(("fits", "code"), [(True, 0), (None, 0), (False, 1)])
def test_the_exit_code_says_whether_it_fits(monkeypatch, capfd, fits, code):
    figures = {"fits": fits, "refusal": "out of memory", "compile_seconds": 1.0}
    monkeypatch.setattr(plan_program, "compiled_figures", lambda *options: figures)
    ended = run_program(plan_program.main, ASKED, monkeypatch, capfd)
    assert ended.code == code, ended.err


@pytest.mark.usefixtures("stand_in")
def test_a_sampler_has_no_training_data(monkeypatch, capfd):
    ended = run_program(plan_program.main, (*ASKED, "--sample", "--cached"), monkeypatch, capfd)
    assert ended.refusal.startswith("error: --cached: expected without --sample")


class Refusing:
    """A program that no compiler has the memory for, or that breaks one."""

    def __init__(self, message: str):
        self.message = message

    def lower(self):
        return self

    def compile(self):
        raise jax.errors.JaxRuntimeError(self.message)


def test_a_compiler_out_of_memory_is_an_answer():
    topology = parse_topology("v5e:2x2", quick=True)
    message = (
        "RESOURCE_EXHAUSTED: Ran out of memory\nin memory space hbm. Used 20G of 15G." + "x" * 999
    )
    found = compiled_figures(Refusing(message), topology)
    assert found["fits"] is False
    assert found["refusal"].startswith("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm.")
    assert len(found["refusal"]) == 300
    assert found["compile_seconds"] >= 0
    planned = train_program(tiny(2, data=2, fsdp=2), topology.devices, False)
    names = ("topology", "command", "package", "compiler", "config_hash", "settings")
    page = markdown({**dict.fromkeys(names, "x"), **quick_figures(planned), **found})
    assert "fits: **no**. The compiler says: RESOURCE_EXHAUSTED" in page
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        compiled_figures(Refusing("INTERNAL: broken"), topology)


def test_quick_does_not_compile(tmp_path):
    """Of chips whose compiler tests never have, more than there are devices."""
    done = plan("--topology", "v5e:4x4", "--quick", "--config.data.batch=16", cache=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Not compiled" in done.stdout
    assert "compiling" not in done.stderr


@pytest.mark.parametrize("sample", [False, True])
def test_quick_figures_need_no_devices(monkeypatch, sample):
    """Those of stand-ins are those of real devices."""
    monkeypatch.setattr("realisdance_jax.planning.topology._installed", lambda module: False)
    recipe = tiny(2, data=2, fsdp=2, tensor=2)
    figures = []
    for devices in (parse_topology("v6e:2x4", quick=True).devices, jax.devices()):
        planned = (
            sample_program(recipe, devices, 2) if sample else train_program(recipe, devices, False)
        )
        figures.append(quick_figures(planned))
    assert figures[0] == figures[1]
    assert figures[0]["arguments_per_chip"]


@pytest.mark.parametrize(("name", "count"), [("h100:16", 16), ("v4:2x2x4", 16), ("cpu:99", 99)])
def test_quick_counts_devices(name, count):
    assert len(parse_topology(name, quick=True).devices) == count


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("v5e", "KIND:SHAPE"),
        ("z9:4", "KIND:SHAPE"),
        ("cpu:99", "99 devices, found 8"),
        ("h100:0", "KIND:SHAPE"),
        ("h100:2x4", "KIND:SHAPE"),
        ("v5e:4x0", "KIND:SHAPE"),
        ("v5e:8", "KIND:SHAPE"),
    ],
)
def test_bad_topologies(name, expected):
    with pytest.raises(UserError, match=expected):
        parse_topology(name)


@pytest.mark.parametrize(("name", "extra"), [("v5e:2x2", "tpu"), ("h100:8", "cuda")])
def test_an_absent_compiler_is_named(monkeypatch, name, extra):
    monkeypatch.setattr("realisdance_jax.planning.topology._installed", lambda module: False)
    with pytest.raises(UserError, match=rf"pip install 'realisdance_jax\[{extra}\]'"):
        parse_topology(name)


def test_collectives_are_counted():
    text = """
  %a = f32[4,8]{1,0} all-gather(f32[2,8]{1,0} %x), dimensions={0}
  %b = (bf16[16]{0}, bf16[16]{0}) all-reduce-start(bf16[16]{0} %y)
  %c = bf16[16]{0} all-reduce-done(%b)
  %d = (f32[2]{0}, f32[2]{0}) all-to-all(f32[2]{0} %p, f32[2]{0} %q)
"""
    found = collectives(text)
    assert found["all-gather"] == {"count": 1, "bytes": 128}
    assert found["all-reduce"] == {"count": 1, "bytes": 32}
    assert found["all-to-all"] == {"count": 1, "bytes": 16}
    assert found["reduce-scatter"] == {"count": 0, "bytes": 0}


def test_collectives_of_a_real_program():
    mesh = make_mesh({"fsdp": 8})
    rows, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("fsdp",), ()))
    x = jax.ShapeDtypeStruct((64, 4), jnp.float32, sharding=rows)
    text = jax.jit(lambda x: x * 2, out_shardings=whole).lower(x).compile().as_text()
    assert collectives(text)["all-gather"] == {"count": 1, "bytes": 64 * 4 * 4}
    assert shard_bytes(x) == 8 * 4 * 4
    assert whole_bytes(x) == 64 * 4 * 4


def test_roofline():
    chip = chip_of("TPU v5 lite")
    figures = {"collectives": {"all-gather": {"bytes": 200e9}}, "flops": 197e12, "peak": 2**33}
    found = roofline(figures, Topology("v5e:2x2", chip, [], ""), 4)
    assert found["fits"]
    assert found["roofline"] == {"arithmetic_seconds": 0.25, "link_seconds": 1.0}
    assert found["step_seconds"] == 1.0
    figures["peak"] = 2**35
    assert not roofline(figures, Topology("v5e:2x2", chip, [], ""), 4)["fits"]


def test_chips_by_the_names_jax_gives():
    kinds = ("TPU v5 lite", "TPU v5", "TPU v6 lite", "NVIDIA H100 80GB HBM3", "cpu")
    assert [getattr(chip_of(kind), "name", None) for kind in kinds] == [
        *("v5e", "v5p", "v6e", "h100"),
        None,
    ]


def test_gpu_figures_are_complete():
    for gpu in GPUS.values():
        text = target_config(gpu)
        assert f"core_count: {gpu.cores}" in text
        assert text.count("{") == text.count("}")
