"""Settings as data: the annotations of a constructor are the schema of what a configuration may say of it.

A configuration is plain data: mappings, lists, text, numbers, booleans and null. `read` makes a dataclass of settings
of it, and `build` the object that a mapping with a `_target_` describes: one of the project's own classes, those that
the packaged configuration names, and nothing else. Every value is checked against the annotation of the parameter that
it is for; pydantic does the checking.
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import import_module
from inspect import get_annotations, isclass, signature
from itertools import islice
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from text23d.errors import UserError
from text23d.paths import conf_dir

T = TypeVar("T")
TARGET = "_target_"
MOST, LONGEST = 8, 100
"""Entries, and characters of one, that a message shows of a value."""


def whole(least: int = 0, most: int = 2**31 - 1) -> Any:
    """The constraint of a whole number in [least, most], for `Annotated[int, whole(1)]`."""
    wanted = f"a whole number, at least {least}" if most == 2**31 - 1 else f"a whole number, {least} to {most}"
    return Field(strict=True, ge=least, le=most, description=wanted)


def number(
    least: float | None = None, most: float | None = None, above: float | None = None, below: float | None = None
) -> Any:
    """The constraint of a finite number, at least and at most, above and below so much, for `Annotated[float, ...]`."""
    limits = {"at least": least, "above": above, "at most": most, "below": below}
    told = " and ".join(f"{word} {limit:g}" for word, limit in limits.items() if limit is not None)
    return Field(
        strict=True, allow_inf_nan=False, ge=least, le=most, gt=above, lt=below, description=f"a number {told}".strip()
    )


def _encodable(text: str) -> str:
    text.encode()  # raises ValueError for what bytes that are no UTF-8 become on a command line
    return text


Count = Annotated[int, whole(1)]
Natural = Annotated[int, whole(0)]
Seed = Annotated[int, whole(0, 2**63 - 1)]
Finite = Annotated[float, number()]
Positive = Annotated[float, number(above=0)]
NonNegative = Annotated[float, number(least=0)]
Share = Annotated[float, number(least=0, most=1)]
Flag = Annotated[bool, Field(strict=True, description="true or false")]
Text = Annotated[str, AfterValidator(_encodable), Field(description="text in UTF-8")]


def read(cls: type[T], section: Mapping[str, Any], prefix: str = "") -> T:
    """The dataclass `cls` with the values that `section` has for its fields, whose keys a person knows with `prefix`.

    Keys of `section` that are no field are left alone: they may be another's. Raises UserError, naming key, value and
    what was expected, where a value does not fit its annotation or one is missing.
    """
    if not isinstance(section, Mapping):
        raise UserError(f"{prefix.rstrip('.') or 'the configuration'}={shown(section)}: expected a section of settings")
    hints = get_type_hints(cls, include_extras=True)
    given = {each.name: section[each.name] for each in fields(cls) if each.name in section}  # type: ignore[arg-type]
    return _call(cls, {name: checked(value, hints[name], prefix + name) for name, value in given.items()}, prefix)


def parameters_of(target: Any) -> dict[str, Any]:
    """The annotations of what a function or class takes; a dataclass may have them of bases in other modules."""
    if is_dataclass(target):
        hints = get_type_hints(target, include_extras=True)
        return {each.name: hints[each.name] for each in fields(target) if each.init}
    return get_type_hints(target.__init__ if isclass(target) else target, include_extras=True)


def build(node: Any, where: str, kind: Any = Any, **given: Any) -> Any:
    """The object that the mapping `node` describes: `_target_` applied to its other entries, each checked, and to
    `given`, which a configuration cannot say.

    Raises UserError where the target is none of `targets()` or makes none of `kind`, a class, a protocol or a union of
    them, before anything is made; and for values that do not fit its annotations.
    """
    target = target_of(node, where)
    hints = parameters_of(target)
    made = target if isclass(target) else hints["return"]
    if not any(_fits(made, each) for each in _members(kind)):
        raise UserError(f"{where}.{TARGET}={node[TARGET]}: expected {described(kind)}")
    settings, settable = {}, [name for name in hints if name not in ("return", *given) and _is_settable(hints[name])]
    for name, value in node.items():
        if name != TARGET:
            if name not in settable:
                raise UserError(f"no setting named {where}.{shown(name)}: expected {', '.join(settable) or 'none'}")
            settings[name] = checked(value, hints[name], f"{where}.{name}")
    return _call(target, settings | given, f"{where}.")


def target_of(node: Any, where: str) -> Any:
    """What the mapping `node` has as its `_target_`. Raises UserError where that is none of `targets()`."""
    if not isinstance(node, Mapping) or TARGET not in node:
        raise UserError(f"{where}={shown(node)}: expected a choice of its group, as in {where}=<name>")
    if not isinstance(node[TARGET], str) or node[TARGET] not in targets():
        raise UserError(
            f"{where}.{TARGET}={shown(node[TARGET])}: expected one of the classes that text23d's own configuration "
            "names; nothing else is built from a configuration"
        )
    module, _, name = node[TARGET].rpartition(".")
    return getattr(import_module(module), name)


@cache
def targets() -> frozenset[str]:
    """All that can be built from a configuration: the `_target_`s in the packaged one."""
    texts = (path.read_text(encoding="utf-8") for path in conf_dir().rglob("*.yaml"))
    return frozenset(re.findall(rf"^\s*{TARGET}:\s*(text23d\.[\w.]+)\s*$", "\n".join(texts), re.M))


def checked(value: Any, annotation: Any, key: str) -> Any:
    """`value` as `annotation` wants it: numbers, text and lists checked, sections made dataclasses, and mappings with a
    `_target_` built. Raises UserError with `key`, the value and what was expected."""
    members = _members(annotation)
    if isinstance(value, Mapping) and TARGET in value:
        return build(value, key, annotation)
    section: Any = next((each for each in members if is_dataclass(each) and isinstance(value, Mapping)), None)
    if section is not None:
        unknown = [name for name in value if name not in {each.name for each in fields(section)}]
        if unknown:
            raise UserError(
                f"no setting named {key}.{unknown[0]}: expected {', '.join(f.name for f in fields(section))}"
            )
        return read(section, value, f"{key}.")
    plain = [each for each in members if not _is_object(each)]
    try:
        if not plain:
            raise ValueError(value)
        return _adapter(Union[tuple(plain)]).validate_python(value)  # noqa: UP007 (made of a list)
    except (ValidationError, ValueError) as error:
        raise UserError(f"{key}={shown(value)}: expected {described(annotation)}") from error


def described(annotation: Any) -> str:
    """What a person may give for `annotation`, in words."""
    return " or ".join(dict.fromkeys(_described(each) for each in _members(annotation)))


def shown(value: Any, depth: int = 3) -> str:
    """A value as a person wrote it, on one line; what is long or deep, by its beginning."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping | list | tuple):
        begin, end = "{}" if isinstance(value, Mapping) else "[]"
        if not depth:
            return f"{begin}...{end}"
        values = value.values() if isinstance(value, Mapping) else value
        inside = [shown(each, depth - 1) for each in islice(values, MOST)]
        if isinstance(value, Mapping):
            inside = [f"{name}: {each}" for name, each in zip(value, inside, strict=False)]
        return begin + ", ".join([*inside, *["..."] * (len(value) > MOST)]) + end
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _call(target: Any, settings: Mapping[str, Any], prefix: str) -> Any:
    required = [
        name
        for name, each in signature(target).parameters.items()
        if each.default is each.empty and each.kind is not each.VAR_KEYWORD and name not in settings
    ]
    if required:
        raise UserError(f"no {prefix}{required[0]} given: add {prefix}{required[0]}=...")
    return target(**settings)


def _is_settable(annotation: Any) -> bool:
    """Whether a configuration can say it: numbers and the like, or an object of ours."""
    members = [each for each in _members(annotation) if each is not types.NoneType]
    return any(not _is_object(each) or each.__module__.startswith("text23d.") for each in members)


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))


def _members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the annotation alone."""
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(member for each in get_args(annotation) for member in _members(each))
    return (annotation,)


def _is_object(annotation: Any) -> bool:
    """Whether it stands for what only `build` makes: a class of ours, a protocol, a function."""
    if is_dataclass(annotation):
        return True
    plain = get_origin(annotation) is not None or annotation is types.NoneType
    return not plain and isinstance(annotation, type) and annotation.__module__ != "builtins"


def _fits(made: type, annotation: Any) -> bool:
    """Whether what is made is of a class; or has all that a protocol names, and is called as it is."""
    if annotation is Any or not getattr(annotation, "_is_protocol", False):
        return annotation is Any or (_is_object(annotation) and issubclass(made, annotation))
    if not {name for name in _names(annotation) if not name.startswith("_")} <= _names(made):
        return False
    wanted = vars(annotation).get("__call__")
    return wanted is None or list(signature(made.__call__).parameters) == list(signature(wanted).parameters)


def _names(kind: type) -> set[str]:
    return {*dir(kind), *(name for each in kind.__mro__ for name in get_annotations(each))}


def _described(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        told = [each.description for each in arguments[1:] if getattr(each, "description", None)]
        return told[0] if told else _described(arguments[0])
    if origin is Literal:
        return f"one of {', '.join(map(shown, arguments))}" if len(arguments) > 1 else shown(arguments[0])
    if origin in (list, Sequence, tuple):
        inside = [each for each in arguments if each is not Ellipsis]
        alike = len(inside) == 1 or origin is not tuple
        return f"a list of {described(inside[0])}" if alike else f"[{', '.join(map(described, inside))}]"
    if annotation in (None, types.NoneType):
        return "null"
    if annotation is str:
        return "text"
    return "a choice of its group" if _is_object(annotation) else str(getattr(annotation, "__name__", annotation))
