"""The recipe of the embedded weights: `make embedded`, or `python -m benchmarks.embedded`.

Every step is a command that resumes by itself; one whose result is there is passed over. So the
same call again goes on where it was stopped. Times of the steps are added to OUT/times.tsv.
"""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import jax

from benchmarks.claims import SHORT
from benchmarks.shipped import begin_with
from realisdance_jax.checkpoints.export import weights_of
from realisdance_jax.checkpoints.packed import pack_weights
from realisdance_jax.config import ABLATIONS
from realisdance_jax.sampling.targets import check_folder
from realisdance_jax.utils.cli import Parser
from realisdance_jax.utils.errors import UserError, exit_on_user_error
from realisdance_jax.utils.files import atomic_output

ROOT = Path(__file__).parents[1]
SHIPPED = {name: ROOT / "realisdance_jax" / "embedded" / f"{name}.npz" for name in ("ours", "base")}
OF_SHIPPED = "cpu"
"""Budget with which they were trained."""

LIMIT = 12_000_000
"""Bytes of a shipped file."""

WHOLE = "decoder/weights"
"""Where training from nothing begins: the VAE and the image encoder."""

SAME_IMAGE_STAGE = ("no_pose_motion", "no_shuffle")
"""They differ from ours in the motion stage only."""


@dataclass(frozen=True)
class Step:
    """name: of its result in OUT. words: behind `python -m`. done: what is there when it has
    nothing left to do; a training run says so itself."""

    name: str
    words: tuple[str, ...]
    done: str = ""


@dataclass(frozen=True)
class Budget:
    """How much of everything. parts, decoder: options of `train_parts`, for both networks and for
    the VAE's decoder alone behind it; image, video: of the two stages. first: of a beginning of the
    image stage that ours and its ablations have in common; without, each trains from nothing.
    baseline: of its image stage, where that differs, for it shares nothing. end: of an end of the
    image stage of ours and the baseline at `NEARLY_NOISE`, where their motion stage is, too;
    ablations do without, and so does `SHORT`, what they are held against.
    """

    clips: int
    frames: int
    size: str = "128x96"
    tail: str = ""
    parts: tuple[str, ...] = ()
    decoder: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    image: tuple[str, ...] = ()
    baseline: tuple[str, ...] = ()
    end: tuple[str, ...] = ()
    video: tuple[str, ...] = ()


def brief(steps: int, lr: str = "3e-3", warmup: int = 100) -> tuple[str, ...]:
    """For runs of an hour at most, whose rate falls to nothing at their end."""
    return (
        *("--config.optim.name=muon", f"--config.optim.lr={lr}", "--config.optim.ema=0.995"),
        *("--config.optim.schedule=cosine", f"--config.optim.warmup_steps={warmup}"),
        *("--config.train.save_every=200", f"--config.train.steps={steps}"),
    )


NEARLY_NOISE = "--config.loss.least_timestep=800"
"""Where a sampler of one step begins, and poses and reference say all that is known."""

PAIRS = ("--config.data.batch=8", "--config.data.frames=2", "--config.data.stride=8")
"""Two targets share a reference, the image stage's most expensive input to read."""

BUDGETS = {
    "accelerator": Budget(2048, 64),
    "cpu": Budget(
        clips=512,
        frames=32,
        parts=(
            *("--vae-steps=4800", "--image-encoder-steps=300", "--crop=64"),
            *("--vae-batch=4", "--image-encoder-batch=16"),
        ),
        decoder=("--vae-steps=4800", "--crop=64", "--vae-batch=4"),
        first=(*PAIRS, *brief(2400)),
        image=(*PAIRS, *brief(800, "2e-3", 50), "--config.seed=1"),
        baseline=(*PAIRS, *brief(3200)),
        end=(*PAIRS, *brief(600, "2e-3", 50), "--config.seed=2"),
        video=("--config.data.batch=2", *brief(450)),
    ),
    "smoke": Budget(
        clips=8,
        frames=16,
        size="64x48",
        tail=",smoke",
        parts=("--vae-steps=2", "--image-encoder-steps=2"),
        decoder=("--vae-steps=2",),
    ),
}
"""accelerator: what configurations say. cpu: some hours on two cores. smoke: for a test."""


def _train(name: str, config: str, init: str, options: tuple[str, ...]) -> Step:
    words = ("realisdance_jax.train", "--config", f"configs/{config}", "--workdir", f"OUT/{name}")
    data = "--config.data.sources=('OUT/cache',)"
    return Step(name, (*words, "--init", f"OUT/{init}", data, *options))


def last_of_parts(name: str) -> str:
    """What `train_parts` writes last into OUT/NAME."""
    return f"{name}/weights/config.json"


def make_steps(budget: Budget, ablations: bool) -> list[Step]:
    """All of the recipe in order; `OUT` stands for the folder."""
    tail, size = budget.tail, budget.size
    count = ("--clips", str(budget.clips), "--clip-frames", str(budget.frames))
    drawn = ("--source", "dancer", *count, "--size", size)
    pictures = (
        "realisdance_jax.prepare",
        "dataset",
        *drawn,
        "--corruption",
        "0.2",
        "--out",
        "OUT/pictures",
    )
    known = "--config.data.sources=('OUT/pictures',)"
    cache = (
        "realisdance_jax.prepare",
        "dataset",
        "--source",
        "OUT/pictures",
        "--size",
        size,
        "--max-empty",
        "1",
    )
    weights = ("--cache", "--weights", f"OUT/{WHOLE}", "--out", "OUT/cache")
    parts = ("realisdance_jax.train_parts", "--config", f"configs/stage1.py:dancer{tail}", known)
    decoder = ("--workdir", "OUT/decoder", "--init", "OUT/parts/weights", *budget.decoder)
    steps = [
        Step("pictures", pictures, "pictures/dataset.json"),
        Step("parts", (*parts, "--workdir", "OUT/parts", *budget.parts), last_of_parts("parts")),
        Step("decoder", (*parts, *decoder), last_of_parts("decoder")),
        Step("cache", (*cache, *weights, "--references", "8"), "cache/dataset.json"),
    ]
    return [*steps, *_runs(budget, ablations)]


def left_to_do(steps: list[Step], done: set[str], wanted: Collection[str]) -> list[Step]:
    """Those behind the steps `wanted` that are not `done`, and what they need, in order."""
    kept: list[Step] = []
    for step in reversed(steps):
        result = re.compile(rf"OUT/{re.escape(step.name)}\b")
        used = any(result.search(word) for later in kept for word in later.words)
        if step.name not in done and (used or step.name in wanted):
            kept.insert(0, step)
    return kept


def _runs(budget: Budget, ablations: bool) -> list[Step]:
    """Both stages of ours, the baseline and the ablations."""
    steps, video = [], budget.video
    if budget.first:
        config = f"stage1.py:dancer{budget.tail}"
        steps.append(_train("first_image", config, WHOLE, budget.first))
    if budget.end:
        video = (*video, NEARLY_NOISE)
    for name in ("ours", "base"):
        image, motion = (config + budget.tail for config in stages_of(name))
        steps += _image_stage(name, budget)
        if budget.end:
            end = (*budget.end, NEARLY_NOISE)
            steps.append(_train(f"{name}_end", image, f"{name}_image", end))
        steps.append(_train(name, motion, end_of(name, budget), video))
    return [*steps, *(_ablations(budget) if ablations else ())]


def _ablations(budget: Budget) -> list[Step]:
    """Both stages of the ablations, which do without the end of the image stage; ours so, too."""
    steps = []
    if budget.end:
        motion = stages_of("ours")[1] + budget.tail
        steps.append(_train(SHORT, motion, "ours_image", budget.video))
    for name in ABLATIONS:
        first = "ours_image"
        if name not in SAME_IMAGE_STAGE:
            steps += _image_stage(name, budget)
            first = f"{name}_image"
        steps.append(_train(name, stages_of(name)[1] + budget.tail, first, budget.video))
    return steps


def _image_stage(name: str, budget: Budget) -> list[Step]:
    """The run NAME_image; of all but the baseline from the common beginning, if there is one."""
    config, options = stages_of(name)[0] + budget.tail, budget.image
    if name == "base":
        return [_train("base_image", config, WHOLE, budget.baseline or options)]
    if not budget.first:
        return [_train(f"{name}_image", config, WHOLE, options)]
    branch = _branch(name, config.partition(":")[2])
    return [branch, _train(f"{name}_image", config, branch.name, options)]


def end_of(name: str, budget: Budget) -> str:
    """The last run of the image stage of ours or the baseline."""
    return f"{name}_end" if budget.end else f"{name}_image"


def stages_of(name: str) -> tuple[str, str]:
    """Configurations of a model's two stages."""
    if name == "base":
        return "animate_anyone.py:stage1,dancer", "animate_anyone.py:stage2,dancer"
    variants = "dancer" if name == "ours" else f"dancer,{name}"
    return f"stage1.py:{variants}", f"stage2.py:{variants}"


def _branch(name: str, variants: str) -> Step:
    words = ("benchmarks.branch", "--init", "OUT/first_image", "--variants", variants)
    begun = f"{name}_begun"
    return Step(begun, (*words, "--out", f"OUT/{begun}"), f"{begun}/config.json")


def command(step: Step, out: Path) -> list[str]:
    """The words to be run."""
    module, *rest = (word.replace("OUT", os.fspath(out)) for word in step.words)
    return [sys.executable, "-m", module, *rest]


def devices_of_commands() -> str:
    """Kinds of devices that a command finds; this process must not take them away from it."""
    words = "import jax; print(*sorted({device.device_kind for device in jax.devices()}), sep=', ')"
    found = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True)
    if found.returncode:
        raise UserError(f"JAX: expected devices, found {found.stderr.strip().splitlines()[-1:]}")
    return found.stdout.strip().splitlines()[-1]


def budget_of(out: Path) -> str:
    """Name of the budget with which OUT was begun; empty where none was."""
    path = out / "budget"
    return path.read_text("utf-8").strip() if path.is_file() else ""


def check_budget(out: Path, name: str) -> None:
    """Remember in OUT what it is trained with; `UserError` where that was another budget."""
    path = out / "budget"
    if (found := budget_of(out)) and found != name:
        raise UserError(f"{out}: expected budget {found}, with which it was begun, found {name}")
    with atomic_output(path) as partial:
        partial.write_text(f"{name}\n", "utf-8")


def run_steps(steps: list[Step], out: Path, devices: str) -> None:
    """Run what is left to do; `UserError` with the command that failed.

    Every call's seconds are added to OUT/times.tsv, also of one that fails or is stopped.
    """
    out.mkdir(parents=True, exist_ok=True)
    for step in steps:
        if step.done and (out / step.done).is_file():
            continue
        words, started = command(step, out), time.perf_counter()
        print(f"== {step.name}: {shlex.join(words)}", flush=True)
        try:
            code = subprocess.run(words, cwd=ROOT).returncode
        finally:
            with (out / "times.tsv").open("a", encoding="utf-8") as file:
                file.write(f"{step.name}\t{time.perf_counter() - started:.0f}\t{devices}\n")
        if code:
            raise UserError(f"{step.name}: expected its command to succeed, found exit code {code}")


def pack(out: Path) -> None:
    """OUT/ours.npz and OUT/base.npz, half precision."""
    for name in ("ours", "base"):
        size = pack_weights(weights_of(out / name), out / f"{name}.npz")
        print(f"{out / name}.npz: {size / 1e6:.2f} MB")
        if size > LIMIT:
            raise UserError(f"{out / name}.npz: expected at most {LIMIT} bytes, found {size}")


def main() -> None:
    parser = Parser(prog="benchmarks.embedded", description=__doc__)
    where = "folder for everything, also to go on in"
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "embedded", help=where)
    parser.add_argument(
        "--budget", choices=BUDGETS, default="accelerator", help="how long everything is trained"
    )
    parser.add_argument("--ablations", action="store_true", help="train them, too")
    kept = "begin with the weights that come with the package, and train what is not there"
    parser.add_argument("--shipped", action="store_true", help=kept)
    options = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    devices = devices_of_commands()
    if options.budget == "accelerator" and devices == "cpu":
        hint = "install .[cuda] or .[tpu] into the environment, or take BUDGET=cpu"
        raise UserError(f"budget accelerator: expected a GPU or TPU, found cpu ({hint})")
    if options.shipped and options.ablations and options.budget != OF_SHIPPED:
        expected = f"budget {OF_SHIPPED} beside --shipped, with which those weights were trained"
        raise UserError(f"--ablations: expected {expected}, found {options.budget}")
    out = options.out.absolute()
    check_folder(out)
    check_budget(out, options.budget)
    budget = BUDGETS[options.budget]
    there = {name: file for name, file in SHIPPED.items() if file.is_file()}
    ends = {name: end_of(name, budget) for name in there}
    done = begin_with(there if options.shipped else {}, ends, out)
    steps = make_steps(budget, options.ablations)
    run_steps(left_to_do(steps, done, ("ours", "base", SHORT, *ABLATIONS)), out, devices)
    pack(out)


if __name__ == "__main__":
    exit_on_user_error(main)
