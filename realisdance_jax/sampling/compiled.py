"""Programs that were compiled, so that a second clip of one size does not compile again."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax

from realisdance_jax.utils.compilation import loads_fast


class Seconds(NamedTuple):
    """What is traced has to be traced at every start; what is compiled may be in the cache."""

    trace: float
    compile: float


NONE = Seconds(0.0, 0.0)


@dataclass
class Compiled:
    """Programs by name and by what they are given; seconds: spent on them so far."""

    programs: dict[tuple, Callable] = field(default_factory=dict)
    seconds: Seconds = NONE

    def get(self, name: Any, make: Callable[[], Any], inputs: tuple) -> Callable:
        """The jitted function that `make` gives, compiled for `inputs` (arrays or their shapes)."""
        key = name, tuple(map(_described, jax.tree.leaves(inputs)))
        if key not in self.programs:
            begin = time.perf_counter()
            lowered = make().lower(*inputs)
            traced = time.perf_counter()
            self.programs[key] = lowered.compile(dict(loads_fast()))
            spent = traced - begin, time.perf_counter() - traced
            self.seconds = Seconds(*map(sum, zip(self.seconds, spent, strict=True)))
        return self.programs[key]

    def since(self, before: Seconds) -> Seconds:
        """Spent after `before`, which was then `seconds`."""
        return Seconds(self.seconds.trace - before.trace, self.seconds.compile - before.compile)


def _described(leaf: Any) -> tuple:
    return leaf.shape, str(leaf.dtype), getattr(leaf, "sharding", None)
