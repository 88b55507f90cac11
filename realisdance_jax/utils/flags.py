"""Flags of the programs that read a configuration file."""

import re
import sys
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from realisdance_jax.utils.errors import UserError


def config_flag(values: flags.FlagValues) -> flags.FlagHolder[Any]:
    """`--config FILE[:variant]` and `--config.KEY=VALUE`."""
    return config_flags.DEFINE_config_file(
        "config", None, "configs/stage1.py or stage2.py[:variant]", flag_values=values
    )


def parse_flags(values: flags.FlagValues) -> None:
    """Read the command line; raises `UserError` for what it or the configuration does not know."""
    try:
        values(sys.argv)
    except (OSError, SyntaxError, ImportError) as error:
        found = " ".join(str(error).split())
        raise UserError(f"--config: expected a configuration in Python, found: {found}") from None
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(" ".join(str(error).split())) from None


def local_path(flag: str, value: str) -> Path:
    """The path that `flag` gives; raises `UserError` for an address such as gs://bucket/folder."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", value):
        raise UserError(
            f"{flag}: expected a path of a file system (a bucket can be mounted as one), "
            f"found {value}"
        )
    return Path(value)
