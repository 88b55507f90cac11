"""Train a VAE and an image encoder where there are none: `python -m realisdance_jax.train_parts`.

For a world of its own, such as the dancers': the weights folder it writes is what `train --init`
takes. The same call again resumes.
"""

from dataclasses import fields
from typing import Any

from absl import flags

from realisdance_jax.training.part_run import train_parts
from realisdance_jax.training.parts import PartConfig
from realisdance_jax.training.recipe import Recipe
from realisdance_jax.utils.compilation import keep_compiled
from realisdance_jax.utils.errors import UserError, exit_on_user_error
from realisdance_jax.utils.flags import config_flag, local_path, parse_flags

FLAGS = flags.FlagValues()
CONFIG = config_flag(FLAGS)
WORKDIR = flags.DEFINE_string("workdir", None, "folder to write; resumes", flag_values=FLAGS)
INIT = flags.DEFINE_string(
    "init", None, "weights with both, whose VAE's decoder alone learns on", flag_values=FLAGS
)


def _number(name: str) -> flags.FlagHolder[Any]:
    """A setting of `PartConfig` as a flag."""
    default: Any = getattr(PartConfig(), name)
    define: Any = flags.DEFINE_integer if isinstance(default, int) else flags.DEFINE_float
    return define(name.replace("_", "-"), default, "see training/parts.py", flag_values=FLAGS)


NUMBERS = {field.name: _number(field.name) for field in fields(PartConfig)}


def main() -> None:
    parse_flags(FLAGS, __doc__)
    if CONFIG.value is None or WORKDIR.value is None:
        raise UserError("expected --config FILE and --workdir FOLDER")
    config = PartConfig(**{name: flag.value for name, flag in NUMBERS.items()})
    folder = local_path("--workdir", WORKDIR.value)
    init = local_path("--init", INIT.value) if INIT.value else None
    keep_compiled()
    print(f"wrote {train_parts(Recipe.of(CONFIG.value), config, folder, init=init)}")


if __name__ == "__main__":
    exit_on_user_error(main)
