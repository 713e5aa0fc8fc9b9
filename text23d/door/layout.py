"""What may be set: the configuration as the chosen options of its groups make it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from text23d.door import hints
from text23d.errors import UserError

UNREADABLE = (HydraException, OmegaConfBaseException, ValueError, TypeError, AttributeError, RecursionError)
"""What Hydra raises for settings that it cannot read or compose; the last four for odd ones, as a list of options."""


@dataclass(frozen=True)
class Layout:
    """values: every dotted key with its default, sections as mappings. choices: the groups with the option chosen."""

    values: Mapping[str, Any]
    choices: Mapping[str, Any]


@contextmanager
def configuration(folder: str | Path, added: str | None = None) -> Iterator[None]:
    """Inside, Hydra composes what lies in `folder`, and in the folder `added` what is not there, as --config-dir has
    it."""
    with initialize_config_dir(str(folder), version_base="1.3"):
        if added:
            search = create_config_search_path(str(folder))
            search.prepend("command-line", f"file://{added}", SearchPathQuery(provider="schema", path=None))
            GlobalHydra.instance().clear()
            Hydra.create_main_hydra2("text23d", search)
        yield


def compose_all(config: str, settings: Sequence[str]) -> DictConfig:
    """The whole, Hydra's part included. Raises one of UNREADABLE."""
    return compose(config, list(settings), return_hydra_config=True)


def group_options(key: str) -> list[str]:
    """The options of a group: its own and, under hydra/, those of the plugins that are installed."""
    return GlobalHydra.instance().config_loader().get_group_options(key.partition("@")[0])


def is_choice(argument: str) -> bool:
    """Whether an override chooses an option of a group, as prior=... does."""
    key, equals, value = argument.lstrip("+").partition("=")
    return bool(equals and key and group_options(key)) and not value.lstrip().startswith("{")


def layout(config: str, chosen: Sequence[str]) -> Layout:
    """What can be set beside these options. Raises UserError for options, and groups, that are not there."""
    try:
        cfg = compose_all(config, chosen)
    except UNREADABLE as error:
        if not chosen:
            raise UserError(f"cannot read the configuration {config}: {hints.in_our_words(error)}") from error
        at = max(range(len(chosen)), key=lambda index: (key_of(chosen[index]).count("/"), index))
        known = layout(config, [*chosen[:at], *chosen[at + 1 :]])
        raise UserError(about_option(chosen[at], known)) from error
    plain: Any = OmegaConf.to_container(cfg)
    values = dict(flat(plain))
    for key, value in values.items():
        if isinstance(value, str) and re.fullmatch(r"\$\{[\w.]+\}", value) and not key.startswith("hydra."):
            values[key] = OmegaConf.select(cfg, key)
    return Layout(values, OmegaConf.to_container(cfg.hydra.runtime.choices))  # type: ignore[arg-type]


def about_option(argument: str, known: Layout) -> str:
    """One line about an option that Hydra refused beside others, which `known` is made of."""
    key, value, said = key_of(argument), argument.partition("=")[2].strip("'\""), hints.brief(argument)
    if argument.startswith("+") and key in known.choices:
        return f"{said}: {key} has a choice already; write it without the plus"
    if key not in known.choices and (parent := key.rpartition("/")[0]) in known.choices:
        return f"{said}: {parent}={known.choices[parent]} has no {key}"
    if key not in known.choices and not argument.startswith("+"):
        return hints.unknown(argument, key, [*known.values, *known.choices])
    options = group_options(key)
    if key.startswith("hydra/") and value in hints.PACKAGES:  # ours, made of one that is not installed
        return hints.no_option(argument, key, value, options, [])
    if value in options:
        return f"{said} does not go with the other choices of this verb"
    return hints.no_option(argument, key, value, options, list(known.values))


def alternatives(chosen: Sequence[str]) -> Iterator[list[str]]:
    """The options that a sweep takes: the first of every group, then each of the others in turn."""
    values = [list(single_values(argument)) for argument in chosen]
    first = [each[0] for each in values]
    yield first
    for index, each in enumerate(values):
        for other in each[1:]:
            yield [*first[:index], other, *first[index + 1 :]]


def flat(settings: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key and its value, that of sections too."""
    for key, value in settings.items():
        yield f"{prefix}{key}", value
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")


def key_of(argument: str) -> str:
    """The key that an override sets."""
    return argument.lstrip("+~").partition("=")[0]


def parsed(argument: str) -> Override | None:
    """An override as Hydra reads it; None where it cannot."""
    try:
        return OverridesParser.create(GlobalHydra.instance().config_loader()).parse_override(argument)
    except UNREADABLE:
        return None


def single_values(argument: str) -> Iterator[str]:
    """The overrides that a sweep's `key=a,b` stands for, one by one."""
    override = parsed(argument)
    if override is None or not override.is_discrete_sweep():
        yield argument
        return
    for value in override.sweep_string_iterator():
        yield f"{argument.partition('=')[0]}={value}"
