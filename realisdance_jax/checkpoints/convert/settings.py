"""The `config.json` files of diffusers and transformers, read with suspicion."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from realisdance_jax.utils.errors import UserError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or {} where there is no such file. Raises `UserError` on anything else."""
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected JSON, found {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(data).__name__}")
    return data


def whole(settings: Mapping[str, Any], key: str, default: int, where: str) -> int:
    """A positive whole number of a settings file; `default` where it is absent or null."""
    value = settings.get(key)
    if value is None:
        return default
    if type(value) is not int or value < 1:
        raise UserError(f"{where}: {key}: expected a whole number from 1, found {value!r:.80}")
    return value


def number(settings: Mapping[str, Any], key: str, default: float, where: str) -> float:
    """A positive number of a settings file; `default` where it is absent or null."""
    value = settings.get(key)
    if value is None:
        return default
    if type(value) not in (int, float) or not value > 0:
        raise UserError(f"{where}: {key}: expected a positive number, found {value!r:.80}")
    return float(value)


def agree(settings: Mapping[str, Any], found: Mapping[str, Any], where: str) -> None:
    """Raise `UserError` where `settings` say something else than the tensors."""
    for key, value in found.items():
        if settings.get(key) not in (None, value):
            said = f"{settings[key]!r:.80}"
            raise UserError(f"{where}: expected {key} {said} (config.json), found {value}")
