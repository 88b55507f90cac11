"""The FLOP counter on cases known by hand, and the cost of one full-size denoising step."""

import functools
import json
import sys

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from benchmarks import flops, presets, work
from realisdance_jax.checkpoints.variables import abstract_component
from realisdance_jax.checkpoints.weights import merge
from realisdance_jax.diffusion.schedule import ScheduleConfig
from realisdance_jax.diffusion.solvers import make_solver
from realisdance_jax.models import attend as ways
from realisdance_jax.models.attend import attend
from realisdance_jax.models.attention import Attention
from realisdance_jax.models.config import MotionConfig, RealisDanceConfig
from realisdance_jax.models.jaxpr_flops import KINDS, count, total
from realisdance_jax.models.layers import Conv, GroupedConv
from realisdance_jax.models.realisdance import COMPONENTS, RealisDance
from realisdance_jax.sampling.programs import (
    ClipState,
    Guidance,
    add_windows,
    make_update,
    make_window_step,
)


def shape(*axes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(axes, jnp.float32)


def cost(function, *args) -> tuple[str, int]:
    """Kind and FLOPs of a function with one sort of operation."""
    found, _ = count(function, *args)
    (kind,) = {op.kind for op in found}
    return kind, total(found)


def test_products():
    assert cost(jnp.matmul, shape(3, 5, 7), shape(7, 11)) == ("matmul", 2 * 3 * 5 * 7 * 11)
    assert cost(lambda x, y: x @ y.T, shape(5, 7), shape(11, 7)) == ("matmul", 2 * 5 * 7 * 11)
    batched = cost(jnp.matmul, shape(3, 5, 7), shape(3, 7, 11))
    assert batched == ("attention", 2 * 3 * 5 * 7 * 11)


@pytest.mark.parametrize(
    ("options", "taps"),
    [
        ({}, 9 * 8 * 6 * 4 * 10),
        ({"kernel_size": 1}, 8 * 6 * 4 * 10),
        ({"stride": 2}, 9 * 4 * 3 * 4 * 10),
        ({"padding": 0}, 9 * 6 * 4 * 4 * 10),
        ({"kernel_size": 7, "stride": 2, "padding": 1}, 49 * 2 * 1 * 4 * 10),
    ],
)
def test_convolutions(options, taps):
    layer, x = Conv(10, **options), shape(2, 3, 8, 6, 4)
    variables = jax.eval_shape(layer.init, jax.random.key(0), x)
    assert cost(layer.apply, variables, x) == ("convolution", 2 * 2 * 3 * taps)


@pytest.mark.parametrize(("stride", "taps"), [(1, 9 * 8 * 6 * 4 * 10 // 2), (2, 9 * 4 * 3 * 20)])
def test_grouped_convolutions(stride, taps):
    """Half of what one convolution of all channels would take."""
    layer, groups = GroupedConv(5, stride), [shape(6, 8, 6, 2)] * 2
    variables = jax.eval_shape(layer.init, jax.random.key(0), groups)
    assert cost(layer.apply, variables, groups) == ("convolution", 2 * 6 * taps)


def test_calls_loops_and_branches():
    x, w, once = shape(5, 7), shape(7, 7), 2 * 5 * 7 * 7

    def flops_of(function) -> int:
        return cost(function, x, w)[1]

    def five_times(x, w):
        return lax.scan(lambda c, _: (c @ w, None), x, length=5)[0]

    @jax.custom_vjp
    def custom(x, w):
        return x @ w

    custom.defvjp(lambda x, w: (x @ w, w), lambda w, g: (g @ w.T, w))
    assert flops_of(five_times) == 5 * once
    assert flops_of(jax.jit(jax.checkpoint(five_times))) == 5 * once
    assert flops_of(custom) == once
    assert flops_of(lambda x, w: lax.map(lambda row: row @ w, x)) == once
    assert flops_of(lambda x, w: lax.map(lambda row: row @ w, x, batch_size=2)) == once
    assert flops_of(lambda x, w: lax.fori_loop(0, 4, lambda _, c: five_times(c, w), x)) == 20 * once

    def branches(x, w):
        return lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: five_times(x, w))

    assert flops_of(branches) == 5 * once


def test_unknown_repetitions_are_refused():
    def forever(x, w):
        return lax.while_loop(lambda x: x[0, 0] > 0, lambda x: x @ w, x)

    with pytest.raises(ValueError, match="while at top level: how often"):
        count(forever, shape(5, 7), shape(7, 7))
    harmless, _ = count(lambda x: lax.while_loop(lambda y: y < 9, lambda y: y + 1, x), shape())
    assert harmless == []


@pytest.mark.parametrize("budget", [2**20, 1])
def test_attention(monkeypatch, budget):
    """Whole or in chunks: two products per head, n m d each; projections are matmuls."""
    monkeypatch.setattr("realisdance_jax.models.attend.CPU_LOGIT_BYTES", budget)
    b, g, n, m, heads, d = 2, 3, 6, 5, 4, 3
    q, own, shared = (shape(b, *size, heads, d) for size in ((g, n), (g, n), (m,)))
    keys = n + m
    found = cost(lambda q, k, s: attend(q, (k, k), (s, s)), q, own, shared)
    assert found == ("attention", 2 * 2 * b * g * heads * n * keys * d)

    layer, x = Attention(heads * d, heads), shape(b, n, 8)
    variables = jax.eval_shape(functools.partial(layer.init, method="query"), jax.random.key(0), x)
    found, _ = count(functools.partial(layer.apply, method="query"), variables, x)
    assert [op.kind for op in found] == ["matmul"]
    assert total(found) == 2 * b * n * 8 * heads * d


@functools.cache
def full_size() -> dict:
    return flops.model_counts()


def test_one_step_is_below_the_limit():
    """Also where windows are new at every step, and with tokens of a black picture."""
    counts, official = full_size(), sum(flops.OFFICIAL_STEP.values())
    assert official == pytest.approx(77.78e12)
    assert flops.step_total(counts) <= flops.LIMIT == 71.0e12
    most = flops.SHARE * official
    assert flops.SHARE == 0.92
    assert flops.step_total(counts) + total(counts["guide"]) <= most
    assert total(counts[flops.STEP[0]]) + total(counts[flops.ABSENT]) <= most


def test_the_count_agrees_with_the_official_figures():
    """The release does our work and repeats K/V of tokens and reference for every frame."""
    counts, frames = full_size(), flops.FRAMES
    pose = counts["encode_pose"] + counts["guide"]
    tokens, bank = (frames * total(counts[piece]) for piece in ("context_kv", "reference_kv"))
    release = {
        flops.STEP[0]: total(counts[flops.STEP[0]]) + tokens + bank,
        flops.STEP[1]: total(counts[flops.ABSENT]) + tokens,
        "encode_reference": total(counts["encode_reference"]),
        "encode_pose + guide": total(pose),
    }
    for piece, found in release.items():
        assert found == pytest.approx(flops.OFFICIAL[piece], abs=0.006e12), piece


def test_folded_cross_attention_costs_nothing():
    """What is left of the unconditional branch's is in no step."""
    for piece, expected in ((flops.STEP[0], True), (flops.STEP[1], False), (flops.ABSENT, True)):
        assert any(op.layer == "cross-attention" for op in full_size()[piece]) == expected


def test_every_operation_has_a_home():
    pieces = {
        "main UNet, conditional": "unet_main",
        "main UNet, unconditional": "unet_main",
        flops.ABSENT: "unet_main",
        "context_kv": "unet_main",
        "fold_context": "unet_main",
        "encode_reference": "unet_ref",
        "reference_kv": "unet_main",
        "encode_pose": "pose_guider",
        "guide": "pose_guider",
        "project": "clip_projector",
    }
    for piece, found in full_size().items():
        assert {op.component for op in found} == {pieces[piece]}
    assert set(pieces.values()) == set(COMPONENTS)
    conditional = full_size()[flops.STEP[0]]
    rest = [op for op in conditional if op.layer == "other"]
    assert {op.path.split("/")[2] for op in rest} == {"conv_in", "time_embedding", "conv_out"}
    motion = [op for op in conditional if op.layer == "motion module"]
    temporal = 20 * 2 * 2
    assert sum(op.kind == "attention" for op in motion) == temporal


def test_command(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(flops, "model_counts", full_size)
    monkeypatch.setattr(sys, "argv", ["flops", "--json", str(tmp_path / "flops.json")])
    flops.main()
    table = capsys.readouterr().out
    assert f"## One denoising step: {flops.step_total(full_size()) / 1e12:.2f}" in table
    written = json.loads((tmp_path / "flops.json").read_text())
    assert written["step"] == flops.step_total(full_size())
    rows = [row for piece in flops.STEP for row in written["pieces"][piece]]
    assert sum(row["flops"] for row in rows) == written["step"]
    assert {row["kind"] for row in rows} == set(KINDS)


def test_the_samplers_own_step_is_within_the_limit():
    """The programs that `denoise_clip` compiles for one fixed window, guidance made beforehand."""
    config = RealisDanceConfig(motion=MotionConfig())
    model, schedule = RealisDance(config), ScheduleConfig()
    solver = make_solver("ddim", schedule, 4)
    step = make_window_step(model, Guidance(2.0))
    update = make_update(solver, Guidance(2.0))

    def traced(method, *args):
        return jax.eval_shape(lambda *a: model.apply(*a, method=method), variables, *args)

    def shape(*axes):
        return jax.ShapeDtypeStruct(axes, jnp.float32)

    h, w = flops.HEIGHT // 8, flops.WIDTH // 8
    parts = [abstract_component(config, name) for name in COMPONENTS]
    variables = merge(*parts)
    context = traced("project", shape(1, flops.TOKENS, config.dino.width))
    kv = traced("reference_kv", traced("encode_reference", shape(1, h, w, 4), context))
    pictures = shape(1, flops.FRAMES, flops.HEIGHT, flops.WIDTH, 9)
    features = traced("encode_pose", pictures)[0]
    pose = traced("guide", shape(1, *features.shape[1:]))
    made = traced("context_kv", context), traced("fold_context", context)
    clip = ClipState(*made, kv, None)
    latents, total_shape = shape(flops.FRAMES, h, w, 4), shape(2, flops.FRAMES, h, w, 4)
    i = jax.ShapeDtypeStruct((), jnp.int32)
    x = shape(1, *latents.shape)
    spent = total(count(step, variables, clip, pose, x, i)[0])
    index = jax.ShapeDtypeStruct((1, flops.FRAMES), jnp.int32)
    sums = (total_shape, shape(2, *x.shape), index, shape(1, flops.FRAMES))
    add = total(count(add_windows, *sums)[0])
    assert spent == flops.step_total(full_size())
    assert spent + add <= flops.LIMIT
    rest = (i, total_shape, shape(flops.FRAMES), latents, (), None)
    table = jax.tree.map(jnp.asarray, solver.table)
    assert total(count(update, table, *rest)[0]) < 1e-6 * spent


def test_kernels_are_not_counted(monkeypatch):
    """What they do inside is not in the jaxpr, so that no platform may choose one."""
    wanted, choose = set(), ways.choose

    def chosen(sizes, compute, *rest):
        wanted.add(compute.attention)
        return choose(sizes, compute, *rest)

    def counting(function, *args):
        with monkeypatch.context() as patch:
            patch.setattr(ways, "choose", chosen)
            return count(function, *args)

    monkeypatch.setattr(work, "count", counting)
    assert work.Work(presets.TINY).step > 0
    assert wanted == {"xla"}
