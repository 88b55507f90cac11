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
LIMIT = 12_000_000
"""Bytes of a shipped file."""

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
    baseline: of its image stage, where that differs, for it shares nothing. last: of an end of the
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
    last: tuple[str, ...] = ()
    video: tuple[str, ...] = ()


def short(steps: int, lr: str = "3e-3", warmup: int = 100) -> tuple[str, ...]:
    """For runs of an hour at most, whose rate falls to nothing at their end."""
    return (
        *("--config.optim.name=muon", f"--config.optim.lr={lr}", "--config.optim.ema=0.995"),
        *("--config.optim.schedule=cosine", f"--config.optim.warmup_steps={warmup}"),
        *("--config.train.save_every=200", f"--config.train.steps={steps}"),
    )


NEARLY_NOISE = "--config.loss.least_timestep=800"
"""Where a sampler of one or two steps begins, and poses and reference say all that is known."""

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
        first=(*PAIRS, *short(2400)),
        image=(*PAIRS, *short(800, "2e-3", 50), "--config.seed=1"),
        baseline=(*PAIRS, *short(3200)),
        last=(*PAIRS, *short(600, "2e-3", 50), "--config.seed=2"),
        video=("--config.data.batch=2", *short(450)),
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
    weights = ("--cache", "--weights", "OUT/decoder/weights", "--out", "OUT/cache")
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
    tail, whole, steps = budget.tail, "decoder/weights", []
    if budget.first:
        steps.append(_train("first_image", f"stage1.py:dancer{tail}", whole, budget.first))
    for name in ("ours", "base"):
        image, video = (config + tail for config in stages_of(name))
        begun, options, every = whole, budget.image, f"{name}_image"
        if name == "base":
            options = budget.baseline or options
        elif budget.first:
            steps.append(_branch(name, image))
            begun = f"{name}_begun"
        motion = budget.video
        if budget.last:
            every, motion = f"{name}_all", (*motion, NEARLY_NOISE)
        steps.append(_train(every, image, begun, options))
        if budget.last:
            steps.append(_train(f"{name}_image", image, every, (*budget.last, NEARLY_NOISE)))
        steps.append(_train(name, video, f"{name}_image", motion))
    return [*steps, *(_ablations(budget) if ablations else ())]


def _ablations(budget: Budget) -> list[Step]:
    """Both stages of the ablations, which do without the end of the image stage; ours so, too."""
    tail, steps, peer = budget.tail, [], "ours_image"
    if budget.last:
        peer = "ours_all"
        steps.append(_train(SHORT, stages_of("ours")[1] + tail, peer, budget.video))
    for name in ABLATIONS:
        image, video = (config + tail for config in stages_of(name))
        if name not in SAME_IMAGE_STAGE:
            if budget.first:
                steps.append(_branch(name, image))
            begun = f"{name}_begun" if budget.first else "decoder/weights"
            steps.append(_train(f"{name}_image", image, begun, budget.image))
        first = peer if name in SAME_IMAGE_STAGE else f"{name}_image"
        steps.append(_train(name, video, first, budget.video))
    return steps


def stages_of(name: str) -> tuple[str, str]:
    """Configurations of a model's two stages."""
    if name == "base":
        return "animate_anyone.py:stage1,dancer", "animate_anyone.py:stage2,dancer"
    variants = "dancer" if name == "ours" else f"dancer,{name}"
    return f"stage1.py:{variants}", f"stage2.py:{variants}"


def _branch(name: str, config: str) -> Step:
    variants = config.partition(":")[2]
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


def check_budget(out: Path, name: str) -> None:
    """Remember in OUT what it is trained with; `UserError` where that was another budget."""
    path = out / "budget"
    if path.is_file() and (found := path.read_text("utf-8").strip()) != name:
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
    out = options.out.absolute()
    check_folder(out)
    check_budget(out, options.budget)
    budget = BUDGETS[options.budget]
    there = {name: file for name, file in SHIPPED.items() if file.is_file()}
    done = begin_with(there if options.shipped else {}, out)
    steps = make_steps(budget, options.ablations)
    run_steps(left_to_do(steps, done, ("ours", "base", SHORT, *ABLATIONS)), out, devices)
    pack(out)


if __name__ == "__main__":
    exit_on_user_error(main)
