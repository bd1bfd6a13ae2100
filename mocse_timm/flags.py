"""Command-line flags and YAML files, both read into one frozen dataclass by tyro.

A YAML file is turned into flags and put before the flags that were typed, so one parser checks both
and the typed flag wins.
"""

import argparse
import ast
import dataclasses
import shlex
import typing
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
import yaml
from tyro.constructors import PrimitiveConstructorSpec

from mocse_timm.checks import BadInput, nearest

__all__ = ["KeyValues", "Pixels", "changed_flags", "parse_flags", "write_yaml"]

Config = TypeVar("Config")


def _parse_key_values(strings: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for string in strings:
        key, separator, value = string.partition("=")
        if not separator or not key:
            raise ValueError(f"expected KEY=VALUE, got {string!r}")
        values[key] = _read(value)
    return values


def _read(value: str) -> Any:
    try:
        return ast.literal_eval(value)
    # A bare word: width=0.5 is a number, backbone=resnet18 a string. The others: {[1]: 2}, or a thousand brackets.
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def _written(value: Any) -> str:
    """Return what :func:`_read` reads as ``value``: words stay bare where they can."""
    return value if isinstance(value, str) and _read(value) is value else repr(value)


KeyValues = Annotated[
    dict[str, Any],
    PrimitiveConstructorSpec(
        nargs="*",
        metavar="KEY=VALUE ...",
        instance_from_str=_parse_key_values,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda values: [f"{key}={value!r}" for key, value in values.items()],
    ),
]
"""The type of a field such as ``--model-kwargs width=0.5 backbone=resnet18``, timm's notation."""


def _parse_pixels(strings: list[str]) -> float:
    numerator, slash, denominator = strings[0].partition("/")
    if slash and float(denominator) == 0:
        raise ValueError(f"expected a number or a quotient of two such as 8/255, got {strings[0]!r}")
    return float(numerator) / float(denominator) if slash else float(numerator)


Pixels = Annotated[
    float,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="FLOAT|N/255",
        instance_from_str=_parse_pixels,
        is_instance=lambda value: isinstance(value, float | int),
        str_from_instance=lambda value: [str(value)],
    ),
]
"""The type of a field such as ``--epsilon 8/255``: a number, or the quotient of two."""


def _values_from_yaml(path: Path, config_class: type) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--config {path}: cannot read the file ({error}); give the path of a YAML file") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2024-13-13
        raise BadInput(f"--config {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise BadInput(f"--config {path} must hold 'flag: value' lines, got a {type(values).__name__}")
    return _checked_values(values, path, config_class)


def _checked_values(values: Mapping[str, Any], path: Path, config_class: type) -> dict[str, Any]:
    """Return ``values`` by the names of the fields, which a file may write with hyphens."""
    fields = {field.name for field in dataclasses.fields(config_class)}
    kinds = typing.get_type_hints(config_class)
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in fields:
            raise BadInput(f"--config {path}: unknown flag {key!r}{nearest(name, fields)}")
        if value is None and type(None) not in typing.get_args(kinds[name]):  # else the parser would read a word "None"
            raise BadInput(f"--config {path}: {key} has no value; give it one, or take the line out")
    return {str(key).replace("-", "_"): value for key, value in values.items()}


def _positionals(config_class: type) -> set[str]:
    """Return the fields that are typed without a flag."""
    kinds = typing.get_type_hints(config_class, include_extras=True)
    return {name for name, kind in kinds.items() if tyro.conf.Positional in getattr(kind, "__metadata__", ())}


def _as_flags(values: Mapping[str, Any]) -> list[str]:
    """Return ``--name value ...`` for each of ``values``, as the parser takes them."""
    flags: list[str] = []
    for key, value in values.items():
        flag = f"--{str(key).replace('_', '-')}"
        if isinstance(value, bool):
            flags.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, dict):
            flags += [flag, *(f"{inner}={_written(content)}" for inner, content in value.items())]
        elif isinstance(value, list | tuple):
            flags += [flag, *map(str, value)]
        else:
            flags += [flag, str(value)]
    return flags


def changed_flags(config: Any, *, leave_out: Collection[str] = ()) -> str:
    """Return the flags of the dataclass ``config`` that differ from their defaults, quoted for a shell.

    Args:
        config: a dataclass that :func:`parse_flags` made.
        leave_out: fields that say where rather than what, such as the folder of the results.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        value = getattr(config, field.name)
        if value != default and field.name not in leave_out:
            values[field.name] = value
    return shlex.join(_as_flags(values))


def parse_flags(
    config_class: type[Config],
    arguments: Sequence[str] | None = None,
    *,
    description: str,
    defaults: tuple[Mapping[str, Any], Path] | None = None,
) -> Config:
    """Read ``arguments`` (default: those of the process) into ``config_class``, a dataclass.

    ``--config FILE.yaml`` may stand anywhere; flags that were typed win over the file's. An unknown flag or a
    value of the wrong type is reported by tyro with exit code 2.

    Args:
        config_class: the dataclass.
        arguments: the flags as typed.
        description: of the command.
        defaults: values that --config and typed flags win over, and the file they come from.

    Raises:
        BadInput: if the YAML file cannot be read, is not a mapping, or names an unknown flag.
    """
    files = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    files.add_argument("--config", type=Path)
    found, typed = files.parse_known_args(arguments)
    values = _checked_values(*defaults, config_class) if defaults else {}
    values |= _values_from_yaml(found.config, config_class) if found.config else {}
    # As defaults, not before what was typed: of two words without a flag the parser would refuse the second.
    positional = {name: str(values.pop(name)) for name in _positionals(config_class) & values.keys()}
    start: dict[str, Any] = {"default": config_class(**positional)} if positional else {}
    description += "\n\n--config FILE.yaml reads flags from a file; flags typed beside it win."
    return tyro.cli(config_class, args=[*_as_flags(values), *typed], description=description, **start)


def write_yaml(config: Any, path: Path) -> None:
    """Write every field of the dataclass ``config`` so that ``--config path`` reads the same values back."""
    values = dataclasses.asdict(config)
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
