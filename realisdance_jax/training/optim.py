"""Which parameters train and how they are updated."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.tree import labels

TRAIN, FROZEN = "train", "frozen"


@dataclass(frozen=True)
class OptimConfig:
    """A rule with warm-up and a global-norm clip over what trains (spec: training has AdamW).

    name: `muon` makes orthogonal updates of kernels, as large as AdamW's, which the rest and the
    pose gate get, with Nesterov momentum; a small network trained from nothing wants fewer steps
    of them.
    lr: peak. schedule: after `warmup_steps` from 0, constant or a cosine to 0 at the last step.
    accumulate: micro-batches per update, averaged. ema: decay of a float32 average, less in the
    first updates; None is off.
    """

    name: Literal["adamw", "adafactor", "muon"] = "adamw"
    lr: float = 5e-5
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 1e-2
    clip_norm: float = 1.0
    accumulate: int = 1
    ema: float | None = None

    def __post_init__(self):
        if self.lr <= 0 or self.clip_norm <= 0 or self.accumulate < 1 or self.warmup_steps < 0:
            raise ValueError("lr and clip_norm must be above 0, accumulate >= 1, warmup_steps >= 0")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay: expected at least 0, found {self.weight_decay}")
        for name in ("b1", "b2"):
            if not 0 <= (decay := getattr(self, name)) < 1:
                raise ValueError(f"{name}: expected 0 or more and below 1, found {decay}")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ValueError(f"ema must be in [0, 1), got {self.ema}")


def learning_rate(config: OptimConfig, steps: int) -> optax.Schedule:
    """lr * k / warmup at update k < warmup (0 at first), then constant or cosine to `steps`."""
    if config.schedule == "cosine":
        rest = optax.cosine_decay_schedule(config.lr, max(1, steps - config.warmup_steps))
    else:
        rest = optax.constant_schedule(config.lr)
    if not config.warmup_steps:
        return rest
    warmup = optax.linear_schedule(0.0, config.lr, config.warmup_steps)
    return optax.join_schedules([warmup, rest], [config.warmup_steps])


MUON_RMS = 0.2
"""Root mean square of an update before the rate, about AdamW's (arXiv:2502.16982)."""

MUON_MOMENTUM = 0.95


GATE, ENCODERS = "gate_module", "pose_guider/backbone"


def _kernel_or_rest(params: Any) -> Any:
    """`muon` for kernels, `grouped` for those of the conditions' encoders, `adamw` for the rest.

    The pose gate is among the rest. Behind it stands a sigmoid: updates of one size whatever the
    gradient drive it to exactly 0 or 1, where it learns no more.
    """

    def label(path: tuple, _: Any) -> str:
        names = "/".join(str(part.key) for part in path)
        if not names.endswith("kernel") or GATE in names:
            return "adamw"
        return "grouped" if ENCODERS in names else "muon"

    return jax.tree_util.tree_map_with_path(label, params)


def orthogonal(updates: Any) -> Any:
    """Kernels `... i o` as matrices `(... i) o` with singular values near 1, in their own shapes.

    Scaled to a root mean square of `MUON_RMS`. Those of one shape are done together: a small
    network has hundreds of kernels, and each would cost its own compiling and its own calls.
    """
    leaves, tree = jax.tree.flatten(updates)
    matrices = [x.reshape(-1, x.shape[-1]) for x in leaves]
    alike: dict[tuple, list[int]] = {}
    for number, matrix in enumerate(matrices):
        alike.setdefault(matrix.shape, []).append(number)
    done = dict.fromkeys(range(len(leaves)))
    rule = scale_by_muon(
        beta=0.0, nesterov=False, weight_dimension_numbers=MuonDimensionNumbers(1, 2)
    )
    for shape, numbers in alike.items():
        stacked = jnp.stack([matrices[number] for number in numbers])
        found, _ = rule.update(stacked, rule.init(stacked))
        scaled = found * (MUON_RMS * max(shape) ** 0.5)
        done |= {n: x.reshape(leaves[n].shape) for n, x in zip(numbers, scaled, strict=True)}
    return jax.tree.unflatten(tree, done.values())


def orthogonal_groups(updates: Any, groups: int) -> Any:
    """`orthogonal` of each of the `groups` kernels in leaves `... i (groups o)`.

    As one matrix, a condition whose gradient is far smaller than another's would get no update.
    """
    apart = jax.tree.map(lambda x: jnp.split(x, groups, axis=-1), updates)
    joined = partial(jnp.concatenate, axis=-1)
    return jax.tree.map(joined, orthogonal(apart), is_leaf=lambda x: isinstance(x, list))


def make_optimizer(
    config: OptimConfig, steps: int, conditions: int = 1
) -> optax.GradientTransformation:
    """Clip, then the rule, any with a decay of lr * weight_decay on every tensor.

    conditions: of the pose guider, whose encoders lie side by side in the same kernels.
    """
    rate = learning_rate(config, steps)
    if config.name == "muon":
        decay = config.weight_decay
        rest = optax.adamw(
            rate, config.b1, config.b2, config.eps, weight_decay=decay, nesterov=True
        )

        def kernels(groups: int) -> optax.GradientTransformation:
            return optax.chain(
                optax.trace(MUON_MOMENTUM, nesterov=True),
                optax.stateless(lambda updates, _: orthogonal_groups(updates, groups)),
                optax.add_decayed_weights(decay),
                optax.scale_by_learning_rate(rate),
            )

        rule = optax.partition(
            {"muon": kernels(1), "grouped": kernels(conditions), "adamw": rest}, _kernel_or_rest
        )
    elif config.name == "adafactor":
        # Its own decay leaves out the rate.
        decay = optax.add_decayed_weights(-config.weight_decay)
        scale = optax.scale_by_learning_rate(rate, flip_sign=False)
        rule = optax.chain(optax.adafactor(None), decay, scale)
    else:
        rule = optax.adamw(rate, config.b1, config.b2, config.eps, weight_decay=config.weight_decay)
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), rule)


def trainable_paths(paths: Iterable[str], table: tuple[tuple[str, str], ...]) -> list[str]:
    """Paths that `table` labels as trained; buffers never are (parity.md: H25).

    Raises `UserError` unless every path matches a pattern and something trains.
    """
    chosen = [path for path, label in labels(paths, table).items() if label == TRAIN]
    chosen = [path for path in chosen if path.startswith("params/")]
    if not chosen:
        raise UserError("trainable: expected patterns that train something, found none that does")
    return chosen
