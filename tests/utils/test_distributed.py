"""How processes of a job find each other, and what the launch scripts ask of the machines."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from realisdance_jax import train
from realisdance_jax.utils import distributed
from realisdance_jax.utils.distributed import abandon, check_alike, on_all, start_distributed
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.flags import local_path
from tests.commands import run_program
from tests.refusals import refusal

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
ALONE = """
from realisdance_jax.utils.distributed import first_host, gathered, start_distributed
import jax
start_distributed(None, 1, 0)
first_host(lambda: print("first"), "name")
print(gathered({"a": 1}), jax.process_count(), jax.device_count())
"""


def test_an_allocation_without_srun_is_one_process():
    """sbatch or salloc set these; only a step of srun says where the others are."""
    found = {**os.environ, "SLURM_JOB_ID": "1", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
    found["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", ALONE], env=found, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines() == ["first", "{'a': 1} 1 8"], done.stderr


def test_a_cluster_that_cannot_be_read_is_no_reason_to_go_alone(monkeypatch):
    """Or every host would train a model of its own into the same folder."""

    def initialize(*args: object) -> None:
        raise ValueError("unsupported worker-network-endpoints format: a:b")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(ValueError, match="unsupported worker-network-endpoints"):
        start_distributed(None, 1, 0)


def test_by_hand(monkeypatch):
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args: calls.append(args))
    start_distributed("host:1", 4, 2)
    assert calls == [("host:1", 4, 2)]


def other_host(monkeypatch, said: dict) -> None:
    """There is another host, and this is what it contributes."""
    monkeypatch.setattr(distributed, "gathered", lambda value: {**said, **value})
    monkeypatch.setattr(jax, "process_count", lambda: 2)


def test_all_hosts_refuse_what_one_refuses(monkeypatch):
    """Or the others would wait for one that is gone."""
    assert on_all(lambda: 3) == 3
    assert refusal(on_all, lambda: refuse("here")) == "here"
    other_host(monkeypatch, {"refused": "there"})
    assert refusal(on_all, lambda: 3) == "there"


def refuse(text: str) -> None:
    raise UserError(text)


def test_hosts_that_see_different_data_are_refused(monkeypatch):
    check_alike("data set", "abc")
    other_host(monkeypatch, {"1": "abd"})
    line = refusal(check_alike, "data set", "abc")
    assert line == "hosts: expected the same data set on all, found abc on host 0 and abd on host 1"


def test_one_of_several_hosts_ends_at_once(monkeypatch, capsys):
    """It waits for no one: the others may be waiting for it."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    abandon(UserError("alone"))
    assert codes == []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    abandon(UserError("of two"))
    assert codes == [2]
    assert capsys.readouterr().err == "error: of two\n"


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ((None, 4, 2), "--processes 4 --process 2: expected --coordinator HOST:PORT beside them"),
        ((None, 2, 0), "--processes 2 --process 0: expected --coordinator"),
        ((None, 1, 1), "--processes 1 --process 1: expected --coordinator"),
        (("host:1", 4, 4), "--process: expected 0 to 3, found 4"),
        (("host:1", 4, -1), "--process: expected 0 to 3, found -1"),
    ],
)
def test_half_of_what_processes_need_is_refused(monkeypatch, call, expected):
    """Or each of them would train alone, into the same folder."""
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args: pytest.fail("began"))
    assert refusal(start_distributed, *call).startswith(expected)


def directives(script: Path) -> dict[str, str]:
    """Options that sbatch reads in a script."""
    lines = [line.split(maxsplit=1) for line in script.read_text("utf-8").splitlines()]
    words = [rest for first, *rest in lines if first == "#SBATCH"]
    return dict(word.removeprefix("--").partition("=")[::2] for (word,) in words)


def test_slurm_gives_every_process_a_gpu_that_it_can_see():
    """JAX takes the GPU of its rank on the node, so all of them must be visible to it."""
    options, text = directives(LAUNCH / "slurm.sh"), (LAUNCH / "slurm.sh").read_text("utf-8")
    assert options["gpus-per-node"] == options["ntasks-per-node"] == "8"
    assert not {"gpus-per-task", "gpu-bind", "gres"} & options.keys()
    (call,) = [line for line in text.splitlines() if line.startswith("srun ")]
    assert "--gpu-bind=none" in call.split()


@pytest.mark.parametrize("code", [0, 1, 99])
def test_slurm_requeues_a_preempted_job(tmp_path, code):
    """With an srun and a scontrol that write down how they are called."""
    for name, ends in (("srun", code), ("scontrol", 0)):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/calls\nexit {ends}\n')
        program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", LAUNCH / "slurm.sh", "--workdir", "a b"],
        env={**os.environ, "PATH": path, "SLURM_JOB_ID": "7"},
        check=False,
    )
    first, *rest = (tmp_path / "calls").read_text().splitlines()
    assert first.endswith("realisdance_jax.train --workdir a b --preempt-exit-code=99")
    assert rest == (["scontrol requeue 7"] if code == 99 else [])
    assert done.returncode == (0 if code == 99 else code)


@pytest.mark.parametrize("python", [None, ".venv/bin/python"])
def test_gke_runs_the_python_of_the_image_or_another(tmp_path, python):
    """With an xpk that writes down how it is called."""
    program = tmp_path / "xpk"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/calls\n')
    program.chmod(0o755)
    found = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    found |= {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    found |= {"CLUSTER": "c", "TPU_TYPE": "v5litepod-16", "IMAGE": "i"}
    found |= {"PYTHON": python} if python else {}
    subprocess.run(["bash", LAUNCH / "xpk.sh", "--workdir", "a b"], env=found, check=True)
    calls = (tmp_path / "calls").read_text().splitlines()
    start = f"{python or 'python'} -m realisdance_jax.train --workdir a\\ b "
    assert calls[calls.index("--command") + 1] == f"{start} --preempt-exit-code=1"


@pytest.mark.parametrize("value", ["gs://bucket/run", "s3://b/x", "file:///data/x"])
def test_addresses_are_no_folders(value):
    line = refusal(local_path, "--workdir", value)
    assert line.startswith("--workdir: expected a path of a file system")
    assert line.endswith(f"found {value}")


@pytest.mark.parametrize("value", ["runs/x", "/a/b", "C:/x", "a:b//c", "gs:/b"])
def test_folders_are(value):
    assert local_path("--init", value) == Path(value)


@pytest.mark.parametrize("flag", ["--workdir", "--init", "--motion"])
def test_training_refuses_addresses(flag, tmp_path, monkeypatch, capfd):
    """Which would be folders of odd names below the current one."""
    monkeypatch.chdir(tmp_path)
    words = {"--workdir": "run", "--init": "weights"} | {flag: "gs://bucket/x"}
    config = ROOT / "configs" / "stage1.py"
    call = ("--config", f"{config}:smoke", *(word for pair in words.items() for word in pair))
    ended = run_program(train.main, call, monkeypatch, capfd)
    assert ended.refusal.startswith(f"error: {flag}: expected a path of a file system")
    assert not list(tmp_path.iterdir())


def test_no_launch_script_or_page_asks_for_an_address():
    for path in LAUNCH.iterdir():
        assert "--workdir gs://" not in path.read_text("utf-8"), path
