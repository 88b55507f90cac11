"""Deep features of a step, kept and reused: the outermost layers alone give the same prediction."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from realisdance_jax.models.jaxpr_flops import count, total
from realisdance_jax.models.realisdance import RealisDance
from realisdance_jax.models.unet import outer_layers
from tests.models import tiny
from tests.oracle import relative_error

ONE_LEVEL = dataclasses.replace(
    tiny.TWO_LEVELS, widths=(8,), layers_per_block=2, attention_levels=(True,), heads=(2,)
)


def inputs(config) -> tuple:
    """(latents, t, context, pose, reference) of two frames, odd sizes."""
    latents, t, *_ = tiny.shapes(config, 1, 2, 5, 3)
    shape = jax.ShapeDtypeStruct
    tokens = shape((1, tiny.TOKENS, config.unet.context_dim), jnp.float32)
    features = shape((1, 2, 5, 3, config.unet.widths[0]), jnp.float32)
    model, variables = RealisDance(config), tiny.variables(config)
    pose = jax.eval_shape(lambda v, x: model.apply(v, x, method="guide"), variables, features)
    return *tiny.draw((latents, t, tokens, pose), 7), None


@pytest.mark.parametrize("unet", [tiny.TWO_LEVELS, ONE_LEVEL], ids=["two levels", "one level"])
def test_features_of_the_same_step_give_the_same_prediction(unet):
    """Those of another time do not, nor are they ignored."""
    config = tiny.config(unet, motion=None if unet is tiny.TWO_LEVELS else tiny.config().motion)
    layers = outer_layers(unet)
    assert layers == 2
    latents, t, *rest = inputs(config)
    model, given = RealisDance(config), (tiny.variables(config), latents)
    keep, reuse = (
        jax.jit(lambda v, *x, method=f"denoise_{name}": model.apply(v, *x, layers, method=method))
        for name in ("keeping", "reusing")
    )
    (prediction, deep), (other, stale) = (keep(*given, x, *rest) for x in (t, t // 2))
    assert relative_error(reuse(*given, t, *rest, deep), prediction) < 1e-5
    late = reuse(*given, t, *rest, stale)
    assert relative_error(late, prediction) > 1e-4
    assert relative_error(late, other) > 1e-4


def test_fewer_layers_need_less_work():
    config = tiny.config(tiny.FOUR_LEVELS)
    model, variables = RealisDance(config), tiny.variables(config)
    latents, t, *_ = tiny.shapes(config, 1, 2, 8, 8)
    tokens = jax.ShapeDtypeStruct((1, tiny.TOKENS, config.unet.context_dim), jnp.float32)

    def work(method, *more) -> int:
        def run(latents, t, tokens, *arrays):
            numbers = [*arrays, *more]
            return model.apply(variables, latents, t, tokens, None, None, *numbers, method=method)

        shapes = deep if method == "denoise_reusing" else []
        return total(count(run, latents, t, tokens, *shapes)[0])

    keep = jax.eval_shape(
        lambda *x: model.apply(variables, *x, None, None, 2, method="denoise_keeping"),
        *(latents, t, tokens),
    )
    deep = [keep[1]]
    assert keep[1].shape == (1, 2, 8, 8, 8)
    whole, level = work("denoise_keeping", 2), work("denoise_reusing", 2)
    deep = [jax.ShapeDtypeStruct((1, 2, 8, 8, 4), jnp.float32)]
    assert work("denoise_reusing", 1) < 0.7 * level < 0.5 * whole
