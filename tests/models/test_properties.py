"""What holds for every model: any size, 1-32 frames, any widths; examples do not mix; dtypes."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from hypothesis import example, given
from hypothesis import strategies as st

from realisdance_jax.models.compute import Compute
from realisdance_jax.models.config import (
    CONDITIONS,
    MotionConfig,
    PoseGuiderConfig,
    RealisDanceConfig,
    UNetConfig,
)
from realisdance_jax.models.realisdance import RealisDance
from tests.examples import few
from tests.models import tiny


def predicted(config: RealisDanceConfig, *sizes: int) -> tuple[int, ...]:
    """Shape of what `guide` and `denoise` make of latents `b f h w`; nothing is computed."""
    model, (x, t, _, tokens, _) = RealisDance(config), tiny.shapes(config, *sizes)
    features = jax.ShapeDtypeStruct((*x.shape[:4], config.unet.widths[0]), jnp.float32)
    context = jax.ShapeDtypeStruct((*tokens.shape[:2], config.unet.context_dim), jnp.float32)

    def run(variables, features, *args):
        pose = model.apply(variables, features, method="guide")
        return model.apply(variables, *args, pose, method="denoise")

    return jax.eval_shape(run, tiny.variables(config), features, x, t, context).shape


@few(4)
@given(h=st.integers(1, 40), w=st.integers(1, 40))
@example(h=1, w=1)
@example(h=9, w=11)
def test_any_size(h, w):
    assert predicted(tiny.config(tiny.FOUR_LEVELS), 1, 2, h, w) == (1, 2, h, w, 4)


def test_an_odd_size_computes():
    config = tiny.config(tiny.FOUR_LEVELS, motion=None)
    x, t, _, context, _ = tiny.draw(tiny.shapes(config, 1, 1, 5, 3), 2)
    context = context[..., : config.unet.context_dim]
    out = tiny.bound(config, "denoise")(tiny.variables(config), x, t, context)
    assert out.shape == (1, 1, 5, 3, 4)
    assert np.isfinite(out).all()
    assert np.std(out) > 1e-3


@few(3)
@given(frames=st.integers(2, 31))
@example(frames=1)
@example(frames=32)
def test_any_number_of_frames(frames):
    assert predicted(tiny.config(), 1, frames, 2, 3) == (1, frames, 2, 3, 4)


@pytest.mark.parametrize(("frames", "limit"), [(33, 32), (5, 4)])
def test_too_many_frames(frames, limit):
    config = tiny.config(motion=MotionConfig(heads=2, max_frames=limit))
    said = f"{frames} frames, but motion modules hold {limit} positions"
    x, t, _, tokens, _ = tiny.shapes(config, 1, frames, 2, 2)
    context = jax.ShapeDtypeStruct((*tokens.shape[:2], config.unet.context_dim), jnp.float32)
    features = jax.ShapeDtypeStruct((*x.shape[:4], config.unet.widths[0]), jnp.float32)
    for method, args in (("denoise", (x, t, context)), ("guide", (features,))):
        with pytest.raises(ValueError, match=said):
            jax.eval_shape(tiny.bound(config, method), tiny.variables(config), *args)
    images = dataclasses.replace(config, motion=None)
    assert predicted(images, 1, frames, 2, 2) == (1, frames, 2, 2, 4)


@st.composite
def configs(draw) -> RealisDanceConfig:
    levels, groups = draw(st.integers(1, 4)), draw(st.sampled_from([1, 2, 4]))
    heads = [draw(st.sampled_from([1, 2, 4])) for _ in range(levels)]
    # Groups, heads and the pairs of sinusoids must divide a width; groups and heads divide 4.
    widths = [4 * draw(st.integers(1, 4)) for _ in range(levels)]
    channels = draw(st.integers(1, 5))
    unet = UNetConfig(
        in_channels=channels,
        out_channels=channels,
        widths=tuple(widths),
        layers_per_block=draw(st.integers(1, 2)),
        attention_levels=tuple(draw(st.booleans()) for _ in range(levels)),
        heads=tuple(heads),
        context_dim=draw(st.integers(1, 9)),
        norm_groups=groups,
    )
    pose = PoseGuiderConfig(
        conditions=CONDITIONS[: draw(st.integers(1, 3))],
        encoder_widths=tuple(draw(st.integers(1, 5)) for _ in range(4)),
        gate_width=draw(st.integers(1, 5)),
    )
    motion = MotionConfig(draw(st.sampled_from([1, 2, 4])), draw(st.integers(1, 3)))
    return tiny.config(
        unet,
        pose=pose,
        motion=draw(st.sampled_from([None, motion])),
        reference_blocks=draw(st.sampled_from(["full", "midup"])),
    )


@few(5)
@given(config=configs())
def test_any_configuration(config):
    inputs = tiny.shapes(config, 2, 2, 3, 2)
    init = RealisDance(config).init_with_output
    out, created = jax.eval_shape(init, jax.random.key(0), *inputs)
    assert (out.shape, out.dtype) == (inputs[0].shape, jnp.float32)
    for path, leaf in traverse_util.flatten_dict(created["params"], sep="/").items():
        assert isinstance(leaf, nn.LogicallyPartitioned), path
        assert len(leaf.names) == leaf.value.ndim, path
        assert leaf.value.dtype == jnp.float32, path
    count = len(config.pose.conditions)
    pose = nn.unbox(created["params"]["pose_guider"])
    conv_in = pose["backbone"]["conv_in"]["kernel"].shape
    assert conv_in == (3, 3, 3, count * config.pose.encoder_widths[0])
    assert pose["gate_module"]["gate_layer.2"]["bias"].shape == (count,)
    projections = [name for name in pose if name.endswith("out_proj")]
    assert len(projections) == len(config.unet.widths) + 1
    assert ("buffers" in created) == (config.motion is not None)


@pytest.mark.parametrize(
    "wrong",
    [{"widths": (8, 18)}, {"heads": (3, 4)}, {"heads": (2,)}, {"attention_levels": (True,)}],
    ids=str,
)
def test_impossible_configurations(wrong):
    with pytest.raises(ValueError, match=r"width|entry per level"):
        dataclasses.replace(tiny.TWO_LEVELS, **wrong)
    with pytest.raises(ValueError, match="expected full or midup, got 'up'"):
        tiny.config(reference_blocks="up")


def without_motion(params: dict) -> dict:
    flat = traverse_util.flatten_dict(params)
    kept = {path: x for path, x in flat.items() if not any("motion_modules" in p for p in path)}
    return traverse_util.unflatten_dict(kept)


def test_video_stage_starts_as_image_stage_of_one_frame():
    """New motion modules add nothing, yet norms over frames tell clips from frames (H2)."""
    video, image = tiny.config(), tiny.config(motion=None)
    flat = traverse_util.flatten_dict(tiny.variables(video)["params"])
    for path in flat:
        if any("motion_modules" in part for part in path) and "proj_out" in path[-2]:
            flat[path] = jnp.zeros_like(flat[path])
    params = traverse_util.unflatten_dict(flat)
    started = {"params": params, "buffers": tiny.variables(video)["buffers"]}
    images = {"params": without_motion(params)}
    assert jax.tree.map(jnp.shape, images) == jax.tree.map(jnp.shape, tiny.variables(image))
    x, _, _, tokens, _ = tiny.draw(tiny.shapes(video, 2, 1, 3, 2), 3)
    t, context = jnp.array([7, 7]), jnp.repeat(tokens[:1, :, : video.unet.context_dim], 2, axis=0)
    run = tiny.bound(video, "denoise")
    apart = tiny.bound(image, "denoise")(images, x, t, context)
    np.testing.assert_allclose(run(started, x, t, context), apart, atol=1e-6)
    together = run(started, x.reshape(1, 2, *x.shape[2:]), t[:1], context[:1])
    assert float(jnp.abs(together[0] - apart[:, 0]).max()) > 1e-2


@functools.cache
def batch_of_three() -> tuple:
    """Inputs with a `keep` that differs, and the jitted forward of them."""
    config = tiny.config()
    inputs = (*tiny.draw(tiny.shapes(config, 3, 2, 3, 2), 4), jnp.array([True, False, True]))
    forward = functools.partial(tiny.bound(config), tiny.variables(config))
    return inputs, forward, np.asarray(forward(*inputs))


def test_examples_do_not_influence_each_other():
    inputs, forward, out = batch_of_three()
    others = tiny.draw(inputs[:5], 5)
    for changed in range(3):
        mixed = [x.at[changed].set(y[changed]) for x, y in zip(inputs, others, strict=False)]
        after = np.asarray(forward(*mixed, inputs[5]))
        kept = [i for i in range(3) if i != changed]
        np.testing.assert_allclose(after[kept], out[kept], atol=1e-6)
        assert np.abs(after[changed] - out[changed]).max() > 1e-2


@few(4)
@given(order=st.permutations(range(3)))
def test_permuted_examples_give_permuted_outputs(order):
    inputs, forward, out = batch_of_three()
    permuted = forward(*(x[jnp.array(order)] for x in inputs))
    np.testing.assert_allclose(permuted, out[list(order)], atol=1e-6)


def test_one_clip_serves_a_batch_of_windows():
    """Reference K/V and tokens of one example broadcast over windows, as if repeated."""
    config = tiny.config()
    values = tiny.variables(config)
    x, t, picture, tokens, _ = tiny.draw(tiny.shapes(config, 3, 2, 3, 2), 6)
    context = tokens[:1, :, : config.unet.context_dim]

    def reference_shapes(v):
        model = RealisDance(config)
        features = model.apply(v, picture[:1], context, method="encode_reference")
        return model.apply(v, features, method="reference_kv")

    reference, other = (tiny.draw(jax.eval_shape(reference_shapes, values), i) for i in (0, 1))
    denoise = functools.partial(tiny.bound(config, "denoise"), values, x, t)
    shared = denoise(context, None, reference)
    tripled = jax.tree.map(lambda part: jnp.repeat(part, 3, axis=0), (context, reference))
    np.testing.assert_allclose(shared, denoise(tripled[0], None, tripled[1]), atol=1e-6)
    assert float(jnp.abs(shared - denoise(context, None, other)).max()) > 1e-2


def test_a_fresh_model_ignores_pose_and_tokens():
    config, key = tiny.config(), jax.random.key(0, impl="rbg")
    inputs = tiny.draw(tiny.shapes(config, 1, 2, 3, 2), 7)

    @functools.partial(jax.jit, static_argnames="method")
    def fresh(x, method):
        return RealisDance(config).init_with_output(key, x, method=method)[0]

    assert not np.any(fresh(inputs[3], "project"))
    addends = fresh(jnp.tile(inputs[0], 2), "guide")
    assert [part.shape[2:] for part in addends] == [(3, 2, 8), (2, 1, 8), (2, 1, 16)]
    assert not any(np.any(part) for part in addends)


def test_bfloat16_computes_and_float32_stays():
    config, (inputs, _, exact) = tiny.config(), batch_of_three()
    values = tiny.variables(config)
    half = RealisDance(config, Compute(jnp.bfloat16))
    created = jax.eval_shape(half.init, jax.random.key(0), *inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves(created)} == {jnp.dtype("float32")}
    rough = tiny.bound(config, compute=Compute(jnp.bfloat16))(values, *inputs)
    assert rough.dtype == jnp.float32
    error = float(jnp.linalg.norm(rough - exact) / jnp.linalg.norm(exact))
    assert 1e-5 < error < 3e-2
    context = jnp.zeros((3, tiny.TOKENS, config.unet.context_dim))
    features = jax.eval_shape(
        tiny.bound(config, "encode_reference", compute=Compute(jnp.bfloat16)),
        values,
        inputs[2],
        context,
    )
    assert {leaf.dtype for leaf in features.values()} == {jnp.dtype("bfloat16")}
