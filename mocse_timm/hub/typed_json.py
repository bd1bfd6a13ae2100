"""JSON back into dataclasses: every value has the type that its field declares, or is refused."""

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["from_json"]

Kind = TypeVar("Kind")


def _dataclass(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {value!r:.60}, not a group of values")
    hints, arguments = get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        if field.name in value:
            arguments[field.name] = _read(hints[field.name], value[field.name], f"{where}.{field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where} lacks {field.name!r}")
    return kind(**arguments)


def _number(kind: type, value: Any, where: str) -> Any:
    fits = isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))
    if not fits or (kind is float and not math.isfinite(value)):
        raise ValueError(f"{where} is {value!r:.60}, not a value of type {kind.__name__}")
    return kind(value)


def _union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    return _read(next(kind for kind in kinds if kind is not types.NoneType), value, where)


def _read(kind: Any, value: Any, where: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where)  # type: ignore[arg-type]  (a class, for JSON has no objects)
    if kind is Any:
        return value
    if kind in (bool, int, float, str):
        return _number(kind, value, where)
    if origin in (Union, types.UnionType):
        return _union(inner, value, where)
    if origin is Literal and value in inner:
        return value
    if origin is list and isinstance(value, list):
        return [_read(inner[0], item, f"{where}[{place}]") for place, item in enumerate(value)]
    if origin is dict and isinstance(value, Mapping):  # a key of JSON is a string, whatever it was before
        return {inner[0](key): _read(inner[1], item, f"{where}.{key}") for key, item in value.items()}
    raise ValueError(f"{where} is {value!r:.60}, not what belongs there")


def from_json(kind: type[Kind], value: Any, name: str) -> Kind:
    """Return the dataclass ``kind`` that ``dataclasses.asdict`` turned into ``value``.

    Fields may be numbers, strings, ``Any``, lists, dictionaries, literals, further dataclasses, or one of these or
    None. Values that ``kind`` has no field for are passed over, so that later versions may add some.

    Args:
        kind: a dataclass.
        value: what JSON gave.
        name: of ``value``, for messages.

    Raises:
        ValueError: in a clause, if a field is missing or of another type, or a number is infinite or none.
    """
    return _dataclass(kind, value, name)
