"""Flags of the programs that read a configuration file."""

import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.records import nearest

HELP = {"--help", "-h", "-help", "--helpfull", "--helpshort"}


def config_flag(values: flags.FlagValues) -> flags.FlagHolder[Any]:
    """`--config FILE[:variant]` and `--config.KEY=VALUE`."""
    return config_flags.DEFINE_config_file(
        "config", None, "configs/stage1.py or stage2.py[:variant]", flag_values=values
    )


def parse_flags(values: flags.FlagValues, about: str | None) -> None:
    """Read the command line; raises `UserError` for what it or the configuration does not know.

    With --help, print `about`, the options and, beside --config, its keys and values; then exit 0.
    """
    words = sys.argv[1:]
    if HELP.intersection(words):
        print(_help(values, about, words))
        sys.exit(0)
    try:
        values(sys.argv)
        # A file that could not be read is told of only when something is asked of it.
        getattr(values["config"].value, "stage", None)
    except (OSError, SyntaxError, ImportError) as error:
        found = _reason(error)
        raise UserError(f"--config: expected a configuration in Python, found: {found}") from None
    except (AttributeError, KeyError) as error:
        raise UserError(_unknown_key(words) or _reason(error)) from None
    except (flags.Error, TypeError, ValueError) as error:
        raise UserError(_reason(error)) from None


def local_path(flag: str, value: str) -> Path:
    """The path that `flag` gives; raises `UserError` for an address such as gs://bucket/folder."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", value):
        raise UserError(
            f"{flag}: expected a path of a file system (a bucket can be mounted as one), "
            f"found {value}"
        )
    return Path(value)


def _reason(error: BaseException) -> str:
    """The first cause of `error` as one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())


def _config(words: Sequence[str]) -> ConfigDict | None:
    """What `--config FILE[:variant]` among `words` gives; None without one."""
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name not in ("--config", "-config"):
            continue
        file, _, variant = (value if equals else "".join(words[i + 1 : i + 2])).partition(":")
        spec = importlib.util.spec_from_file_location("config", file)
        if spec is None or spec.loader is None or not Path(file).is_file():
            return None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.get_config(variant)
    return None


def _unknown_key(words: Sequence[str]) -> str | None:
    """What is wrong with the first `--config.KEY` that is not in the configuration."""
    config = _config(words)
    for word in words:
        node: Any = config
        above, *parts = word.partition("=")[0].split(".")
        for part in parts if above in ("--config", "-config") else ():
            known = list(node) if isinstance(node, ConfigDict) else []
            if part not in known:
                keys = f" (keys: {', '.join(known)})" if known else ""
                return f"{above}: unknown key {part!r}{nearest(part, known)}{keys}"
            above, node = f"{above}.{part}", node[part]
    return None


def _help(values: flags.FlagValues, about: str | None, words: Sequence[str]) -> str:
    lines = [(about or "").strip(), "", "options:"]
    for name in sorted(values):
        flag = values[name]
        default = "" if flag.default is None else f" (default: {flag.default})"
        lines.append(f"  --{name}: {flag.help}{default}")
    config = _config(words)
    if config is None:
        return "\n".join([*lines, "", "with --config FILE: also its keys and their values"])
    return "\n".join([*lines, "", "configuration, --config.KEY=VALUE:", *_keys(config, "")])


def _keys(config: ConfigDict, above: str) -> list[str]:
    lines = []
    for key, value in config.items():
        name = f"{above}{key}"
        nested = isinstance(value, ConfigDict)
        lines += _keys(value, f"{name}.") if nested else [f"  {name} = {value!r}"]
    return lines
