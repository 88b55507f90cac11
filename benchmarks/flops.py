"""FLOPs of one denoising step and of what is computed once per clip, at full width.

`python -m benchmarks.flops [--json FILE]` prints Markdown tables. The model is traced on shapes:
no weights, no accelerator. What counts is said in `realisdance_jax.models.jaxpr_flops`.
"""

import argparse
import datetime
import json
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp

from realisdance_jax.models.compute import Compute
from realisdance_jax.models.config import MotionConfig, RealisDanceConfig
from realisdance_jax.models.jaxpr_flops import KINDS, LAYERS, OTHER, Operation, count, total
from realisdance_jax.models.realisdance import RealisDance
from realisdance_jax.utils.errors import exit_on_user_error
from realisdance_jax.utils.files import atomic_output

FRAMES, HEIGHT, WIDTH = 16, 768, 576
TOKENS = 375  # of DINOv2 on a 320x240 picture: 22 * 17 + 1
LIMIT = 71.0e12
STEP = ("main UNet, conditional", "main UNet, unconditional")
"""What the sampler runs per step and window; the second sees no reference, and tokens that are all
alike, so that its cross-attention is made beforehand."""

ABSENT = "main UNet, unconditional on a black picture"
"""The second with `--uncond image`, whose tokens differ."""

SHARE = 0.92
"""Of the release's FLOPs, what a step may need."""

OFFICIAL_STEP = {"conditional": 42.79e12, "unconditional": 34.99e12}
"""The release per window and step: everything below runs again in each branch."""

OFFICIAL = {
    STEP[0]: 38.89e12,
    STEP[1]: 32.62e12,
    "encode_reference": 1.53e12,
    "encode_pose + guide": 2.36e12,
    "project": 0.005e12,
}


def model_counts() -> dict[str, list[Operation]]:
    """Operations of every piece of the full-size video model, for one window of one clip."""
    config = RealisDanceConfig(motion=MotionConfig())
    model = RealisDance(config, Compute(attention="xla"))

    def shape(*axes: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(axes, dtype)

    counts: dict[str, list[Operation]] = {}

    def call(piece: str, method: str, *args: Any) -> Any:
        counts[piece], shapes = count(lambda v, *a: model.apply(v, *a, method=method), *args)
        return shapes

    h, w, c = HEIGHT // 8, WIDTH // 8, config.unet.in_channels
    latents, t = shape(1, FRAMES, h, w, c), shape(1, dtype=jnp.int32)
    picture, raw = shape(1, h, w, c), shape(1, TOKENS, config.dino.width)
    conditions = shape(1, FRAMES, HEIGHT, WIDTH, 3 * len(config.pose.conditions))
    variables = jax.eval_shape(model.init, jax.random.key(0), latents, t, picture, raw, conditions)
    context = call("project", "project", variables, raw)
    features = call("encode_reference", "encode_reference", variables, picture, context)
    reference = call("reference_kv", "reference_kv", variables, features)
    encoded, _ = call("encode_pose", "encode_pose", variables, conditions)
    pose = call("guide", "guide", variables, encoded)
    tokens = call("context_kv", "context_kv", variables, context)
    folded = call("fold_context", "fold_context", variables, shape(1, 1, config.unet.context_dim))
    branches = ((STEP[0], tokens, reference), (STEP[1], folded, None), (ABSENT, tokens, None))
    for piece, made, seen in branches:
        call(piece, "denoise", variables, latents, t, made, pose, seen)
    return counts


def step_total(counts: dict[str, list[Operation]]) -> int:
    """FLOPs of one denoising step with guidance."""
    return sum(total(counts[piece]) for piece in STEP)


def _row(name: str, found: list[Operation], *more: float | None) -> str:
    by_kind: Counter = Counter()
    for op in found:
        by_kind[op.kind] += op.flops
    numbers = (*(by_kind[kind] for kind in KINDS), by_kind.total(), *more)
    cells = ("" if n is None else f"{n / 1e12:.3f}" for n in numbers)
    return f"| {name} | {' | '.join(cells)} |"


def _table(first: str, columns: tuple[str, ...], rows: list[str]) -> str:
    rule = "|---|" + "---:|" * len(columns)
    return "\n".join([f"| {first} | {' | '.join(columns)} |", rule, *rows])


def report(counts: dict[str, list[Operation]]) -> str:
    """Markdown: the step by part and kind, by layer, and the pieces computed once."""
    columns = (*KINDS, "total")
    both = [op for piece in STEP for op in counts[piece]]
    official = sum(OFFICIAL_STEP.values())
    needed, limit, theirs = (f"{n / 1e12:.2f}" for n in (step_total(counts), LIMIT, official))
    step = [_row(piece, counts[piece], OFFICIAL[piece]) for piece in STEP]
    again = official - sum(OFFICIAL[piece] for piece in STEP)
    step.append(_row("pose guider, reference, projector", [], again))
    step.append(_row("one step", both, official))
    step.append(_row("one step that runs `guide` too", both + counts["guide"], official))
    black = counts[STEP[0]] + counts[ABSENT]
    step.append(_row("one step with `--uncond image`", black, official))
    names = [*dict(LAYERS), OTHER]
    layers = [_row(name, [op for op in both if op.layer == name]) for name in names]
    pose = counts["encode_pose"] + counts["guide"]
    once = [
        _row(f"{piece} ({counts[piece][0].component})", counts[piece], OFFICIAL.get(piece))
        for piece in counts
        if piece not in (*STEP, ABSENT)
    ]
    once.append(_row("encode_pose + guide", pose, OFFICIAL["encode_pose + guide"]))
    return f"""# FLOPs at {HEIGHT}x{WIDTH}, {FRAMES} frames, guidance on

`python -m benchmarks.flops`, jax {jax.__version__}, {datetime.date.today()}. 2 x multiply-adds in
units of 1e12, counted from jaxprs at full width; "official" is what the release needs.

## One denoising step: {needed} (limit {limit}, official {theirs})

{_table("part", (*columns, "official"), step)}

The release runs the reference UNet in the conditional branch and the pose guider and the projector
in both branches of every step; here their results are made once, below. It also projects the
reference and the image tokens to keys and values once per frame and step; here `reference_kv` and
`context_kv` do so once per clip. Unconditional tokens that are all alike give every query the same
value: `fold_context` makes it once per clip, and cross-attention to them is an addition. `guide`
depends on the window alone: a step runs it only for windows that were not there before.

## The step by layer

{_table("layer", columns, layers)}

## Once per clip (`guide`: once per window)

{_table("piece", (*columns, "official, per branch"), once)}
"""


def as_json(counts: dict[str, list[Operation]]) -> dict:
    """FLOPs by piece, component, layer and kind, and the total of a step."""
    pieces = {}
    for piece, found in counts.items():
        grouped: Counter = Counter()
        for op in found:
            grouped[op.component, op.layer, op.kind] += op.flops
        pieces[piece] = [
            {"component": c, "layer": layer, "kind": kind, "flops": flops}
            for (c, layer, kind), flops in sorted(grouped.items())
        ]
    settings = {"frames": FRAMES, "height": HEIGHT, "width": WIDTH, "tokens": TOKENS}
    return {
        "jax": jax.__version__,
        "date": str(datetime.date.today()),
        **settings,
        "step": step_total(counts),
        "limit": LIMIT,
        "official": sum(OFFICIAL_STEP.values()),
        "pieces": pieces,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.flops", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write the numbers here as well")
    options = parser.parse_args()
    counts = model_counts()
    print(report(counts), end="")
    if options.json:
        with atomic_output(options.json) as path:
            path.write_text(json.dumps(as_json(counts), indent=2) + "\n")
    most = min(LIMIT, SHARE * sum(OFFICIAL_STEP.values()))
    if step_total(counts) > most:
        raise SystemExit(f"one step needs more than {most:.3g} FLOPs")


if __name__ == "__main__":
    exit_on_user_error(main)
