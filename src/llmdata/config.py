"""Recipes: reading YAML into pydantic models, with errors that name the file, the line, the key and what is allowed.

Every stage keeps its own section (a subclass of `Section`) beside its code; `llmdata.pipeline.recipe` puts them
together. Here is what they share.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from llmdata.errors import ConfigError


class Section(BaseModel):
    """Base of every part of a recipe: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?)b?", re.IGNORECASE)
_COUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kmbt]?)", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?", re.IGNORECASE)


def parse_size(value: object) -> object:
    """`64MB` → 64,000,000; `1GiB` → 1,073,741,824; a plain number is bytes."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"{value!r} is not a size; write for example 64MB, 1.5GB or 1GiB")
    power = " kmgtp".index(match[2].lower() or " ")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def parse_count(value: object) -> object:
    """`100M` → 100,000,000; `1.5B` → 1,500,000,000 (K, M, B, T)."""
    if not isinstance(value, str):
        return value
    match = _COUNT.fullmatch(value.strip().replace("_", "").replace(",", ""))
    if match is None:
        raise ValueError(f"{value!r} is not a count; write for example 500K, 100M or 1.5B")
    return int(float(match[1]) * 1000 ** " kmbt".index(match[2].lower() or " "))


def parse_duration(value: object) -> object:
    """`90s`, `30m`, `2h`, `1d` → seconds; a plain number is seconds."""
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"{value!r} is not a duration; write for example 90s, 30m, 2h or 1d")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[(match[2] or "s").lower()]


Size = Annotated[int, BeforeValidator(parse_size, json_schema_input_type=int | str)]
Count = Annotated[int, BeforeValidator(parse_count, json_schema_input_type=int | str)]
Duration = Annotated[float, BeforeValidator(parse_duration, json_schema_input_type=float | str)]

S = TypeVar("S", bound=Section)


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, which YAML forbids and PyYAML silently accepts."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice (first on line {seen[key]})", key_node.start_mark
                )
            if isinstance(key, str):
                seen[key] = line
        return super().construct_mapping(node, deep)


def load(model: type[S], path: Path, overrides: Sequence[str] = ()) -> S:
    """Read the YAML file `path` as `model`, then apply `overrides` (`clean.language.threshold=0.7`, value in YAML).

    Raises ConfigError naming file, line, key and what is allowed.
    """
    try:
        source = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such recipe file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the recipe: {error}") from None
    return parse(model, source, str(path), overrides)


def parse(model: type[S], source: str, name: str, overrides: Sequence[str] = ()) -> S:
    """As `load`, from YAML text; `name` stands for the file in messages."""
    try:
        root = yaml.compose(source, Loader=_UniqueKeyLoader)
        data = yaml.load(source, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise ConfigError(_yaml_message(name, error)) from None
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise ConfigError(f"{name}: a recipe is a mapping of keys to values, this file holds a {type(data).__name__}")
    overridden = apply_overrides(data, overrides)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_validation_message(model, name, root, overridden, error)) from None


def from_options(model: type[S], options: Mapping[str, object], settings: Sequence[str] = (), section: str = "") -> S:
    """`model` from a command's options (None: not given) and its `--set KEY=VALUE`, KEY with or without `section.`.

    Raises ConfigError naming the option as it was typed.
    """
    given = {f"{key}={json.dumps(value)}": (key, value) for key, value in options.items() if value is not None}
    try:
        return parse(model, "", "options", [*given, *(option.removeprefix(f"{section}.") for option in settings)])
    except ConfigError as error:
        message = str(error).replace("options: : ", "")
        for override, (key, value) in given.items():
            name = key.replace("_", "-")
            if isinstance(value, list):  # given by one option a value, which is named in the singular
                name, value = name.removesuffix("s"), " ".join(map(str, value))
            message = message.replace(f"--set {override}: {key}", f"--{name} {value}")
        raise ConfigError(message) from None


def apply_overrides(data: dict[str, Any], overrides: Sequence[str]) -> dict[tuple[str, ...], str]:
    """Write each `a.b.c=VALUE` into `data`; returns which option set which key."""
    overridden: dict[tuple[str, ...], str] = {}
    for option in overrides:
        dotted, equals, raw = option.partition("=")
        keys = tuple(dotted.strip().split("."))
        if not equals or not all(keys):
            raise ConfigError(f"--set {option}: write --set KEY=VALUE, for example --set clean.language.threshold=0.7")
        try:
            value = yaml.safe_load(raw)
        except yaml.YAMLError:
            value = raw
        target = data
        for depth, key in enumerate(keys[:-1], 1):
            if target.get(key) is None:
                target[key] = {}
            target = target[key]
            if not isinstance(target, dict):
                raise ConfigError(f"--set {option}: {'.'.join(keys[:depth])} is a single value, not a section")
        target[keys[-1]] = value
        overridden[keys] = option
    return overridden


def dump(section: Section) -> str:
    """`section` as YAML that `load` reads back to an equal section."""
    return yaml.safe_dump(section.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def _yaml_message(name: str, error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{name}:{mark.line + 1}:{mark.column + 1}: {error.problem}"
    return f"{name}: not valid YAML: {error}"


def _validation_message(
    model: type[BaseModel],
    name: str,
    root: yaml.Node | None,
    overridden: dict[tuple[str, ...], str],
    error: ValidationError,
) -> str:
    lines = []
    for detail in error.errors(include_url=False):
        keys = tuple(str(part) for part in detail["loc"] if not _is_union_tag(part))
        option = next((text for path, text in overridden.items() if keys[: len(path)] == path), None)
        place = f"{name}:{_line_of(root, keys)}" if root else name  # options alone have no lines
        where = f"--set {option}" if option else place
        tags = {str(part) for part in detail["loc"] if _is_union_tag(part)}
        lines.append(f"{where}: {'.'.join(keys)}: {_problem(model, keys, detail, tags)}")
    return "\n".join(dict.fromkeys(lines))


def _is_union_tag(part: int | str) -> bool:
    # pydantic adds the member's name to the location inside a union: `list[str]`, `function-before[...]`, `int`.
    return isinstance(part, str) and (bool(re.search(r"[\[\]()]", part)) or part in {"int", "str", "float", "bool"})


def _problem(model: type[BaseModel], keys: tuple[str, ...], detail: ErrorDetails, tags: AbstractSet[str]) -> str:
    if detail["type"] == "extra_forbidden":
        allowed = _keys_at(model, keys[:-1], tags)
        close = difflib.get_close_matches(keys[-1], allowed, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return f"there is no such key{hint}; allowed: {', '.join(allowed)}"
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    given = detail.get("input")
    shown = "" if isinstance(given, dict) or detail["type"] == "missing" else f", not {given!r}"
    return f"{message}{'' if repr(given) in message else shown}"


def _keys_at(model: type[BaseModel], keys: tuple[str, ...], tags: AbstractSet[str] = frozenset()) -> list[str]:
    """Keys allowed in the section at `keys`, found by walking the models' annotations.

    Of several models in a union, `tags` name the one that was meant: `(Name)`.
    """
    for key in keys:
        field = model.model_fields.get(key)
        models = list(_models_in(field.annotation)) if field else []
        inner = next((each for each in models if f"({each.__name__})" in tags), models[0] if models else None)
        if inner is None:
            return [] if field is None and not key.isdigit() else list(model.model_fields)
        model = inner
    return list(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)


def _line_of(node: yaml.Node | None, keys: tuple[str, ...]) -> int:
    """Line of the deepest part of `keys` that the file has."""
    line = node.start_mark.line + 1 if node else 1
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == key), None)
            if pair is None:
                return line
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
            node = node.value[int(key)]
            line = node.start_mark.line + 1
        else:
            return line
    return line
