"""Frozen dataclasses to JSON values and back, strictly."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from realisdance_jax.utils.errors import UserError

T = TypeVar("T")


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the closest of `known`, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def to_json(record: Any) -> Any:
    """A dataclass, nested at will, as dicts, lists and scalars."""
    return dataclasses.asdict(record)


def from_json(kind: type[T], data: Any, where: str) -> T:
    """`kind` from what `to_json` made of it; missing keys take their defaults.

    Raises `UserError` that begins with `where` for an unknown key (with the nearest name), a wrong
    type or a value the dataclass refuses.
    """
    if not isinstance(data, Mapping):
        raise UserError(f"{where}: expected an object, found {data!r:.80}")
    hints = typing.get_type_hints(kind)
    for key in data:
        if key not in hints:
            raise UserError(f"{where}: unknown key {key!r}{nearest(str(key), hints)}")
    required = {
        field.name
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        if field.default is field.default_factory is dataclasses.MISSING
    }
    if missing := required - set(data):
        raise UserError(f"{where}: expected key {min(missing)!r}, found none")
    values = {key: _value(hints[key], value, f"{where}: {key}") for key, value in data.items()}
    try:
        return kind(**values)
    except (ValueError, UserError) as error:
        raise UserError(f"{where}: {error}") from None


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        (hint,) = (part for part in arguments if part is not type(None))
        return _value(hint, value, where)
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type, hint), value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise UserError(f"{where}: expected one of {', '.join(arguments)}, found {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{where}: expected a list, found {value!r:.80}")
        return tuple(_value(arguments[0], item, where) for item in value)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: expected an object, found {value!r:.80}")
        return {str(key): _value(arguments[1], item, where) for key, item in value.items()}
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise UserError(f"{where}: expected {hint.__name__}, found {value!r:.80}")
    return value
