"""The settings on the command line of a verb: every one known, texts quoted, and the whole composed once, before
anything heavy is imported."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from text23d.compose import composing
from text23d.door import foreign, hints
from text23d.door.text import PROSE, is_text, quoted, text_value
from text23d.errors import UserError
from text23d.paths import conf_dir, config_of

UNREADABLE = (HydraException, OmegaConfBaseException, ValueError, RecursionError)
"""What Hydra raises for settings that it cannot read or compose."""


@dataclass(frozen=True)
class CommandLine:
    """What Hydra is given.

    runs: whether the verb is called, as it is not for --cfg and the like.
    folder: of a single run, where its name holds a `${` that Hydra would take for a reference; Hydra is told another.
    """

    arguments: list[str]
    config_path: str
    config_name: str
    runs: bool
    folder: str | None


def read(verb: str, arguments: Sequence[str]) -> CommandLine:
    """The command line of a verb. Raises UserError, in one line, for every mistake that can be seen before it runs."""
    given, own = options(arguments), config_of(verb)
    assert own is not None, verb
    runs = not (given.cfg or given.info or given.hydra_help or given.shell_completion)
    path, name = os.path.abspath(given.config_path or own.parent), given.config_name or own.stem
    multirun = given.multirun or any(re.fullmatch("hydra.mode=multirun", each, re.I) for each in given.overrides)
    folders = [os.path.abspath(each) for each in (given.config_dir, given.config_path) if each]
    if folders:
        foreign.forbid(folders, name)
    with initialize_config_dir(path, version_base="1.3"):
        settings, cfg = check(name, given.overrides, multirun, runs, given.config_dir)
    if given.package and OmegaConf.select(cfg, given.package, throw_on_missing=False) is None:
        raise UserError(f"--package {given.package}: {hints.near(given.package, [str(key) for key in cfg])}")
    if folders:
        with initialize_config_dir(str(own.parent), version_base="1.3"):
            foreign.compare(cfg.hydra, own.stem, settings, folders)
    given.config_path = given.config_path and path
    folder = None
    if runs and not multirun and "${" in cfg.hydra.run.dir:
        folder = os.path.abspath(cfg.hydra.run.dir)
        settings.append("hydra.run.dir=.")
    # Hydra understands its options only before all settings.
    return CommandLine([*flags(given), *settings], path, name, runs, folder)


def flags(given: Namespace) -> Iterator[str]:
    """Hydra's own options as they are written, without the settings."""
    for name, value in vars(given).items():
        if value and name != "overrides":
            yield f"--{name.replace('_', '-')}"
            if value is not True:
                yield value


def options(arguments: Sequence[str]) -> Namespace:
    """Hydra's own options, wherever they stand, and the settings. Raises UserError for others."""
    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    given, others = parser.parse_known_intermixed_args(list(arguments))
    if others:
        raise UserError(hints.no_flag(others[0], arguments))
    if given.experimental_rerun:
        raise UserError("no option --experimental-rerun: it would run what a file holds; give the settings again")
    if sum(map(bool, (given.cfg, given.run, given.multirun, given.info, given.shell_completion))) > 1:
        raise UserError("--cfg, --run, --multirun, --info and --shell-completion exclude each other: give one")
    if given.resolve and not given.cfg:
        raise UserError("--resolve goes with --cfg, as in --cfg job --resolve")
    return given


def refuse(message: str) -> NoReturn:
    raise UserError(f"{message}; settings are written key=value, as in {hints.EXAMPLES['prompt']}")


def check_passed_on(settings: Iterable[Sequence[str]]) -> None:
    """The settings that a study passes on to its runs, each sequence to some. Raises UserError, in one line, where the
    main job has no such setting or cannot read it."""
    with composing(), initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for each in settings:
            check("config", each, runs=False)


@dataclass(frozen=True)
class Layout:
    """What may be set beside some options: every dotted key with its default, sections as mappings, and the groups
    with the option chosen."""

    values: Mapping[str, Any]
    choices: Mapping[str, Any]


def check(
    config: str, arguments: Sequence[str], multirun: bool = False, runs: bool = True, added: str | None = None
) -> tuple[list[str], DictConfig]:
    """The settings as Hydra may read them, and the configuration that they make, Hydra's part included; of a sweep,
    that of its first run. To be called inside `initialize_config_dir`.

    runs: whether the verb is to run, which wants settings complete. added: a further folder of configuration.
    Raises UserError for keys and options that are not there, with near misses, for values that cannot be read, for
    what is missing, and for a folder that cannot be written to.
    """
    search = [f"hydra.searchpath=[{quoted('file://' + os.path.abspath(added))}]"] if added else []
    chosen = [argument for argument in arguments if is_choice(argument)]
    layouts = [layout(config, search, each) for each in alternatives(chosen)]
    settings = [each if each in chosen else accepted(each, layouts, multirun, arguments) for each in arguments]
    cfg = composed(config, search, [next(single_values(each)) for each in settings], arguments)
    foreign.check_hydra(cfg.hydra)
    if runs:
        check_complete(cfg, multirun)
        if all(each.choices.get("prior") == "builtin" for each in layouts):
            check_words(settings)
    return settings, cfg


def composed(config: str, search: Sequence[str], settings: Sequence[str], arguments: Sequence[str]) -> DictConfig:
    """The whole configuration. Raises UserError naming the first of `arguments` that does not go with those before."""
    try:
        return compose(config, [*search, *settings], return_hydra_config=True)
    except UNREADABLE as error:
        for end in range(1, len(settings) + 1):
            try:
                compose(config, [*search, *settings[:end]], return_hydra_config=True)
            except UNREADABLE:
                raise UserError(f"{arguments[end - 1]!r} does not go with the other settings; see --cfg job") from error
        raise UserError(hints.in_our_words(error)) from error


# Options of groups


def is_choice(argument: str) -> bool:
    """Whether an override chooses an option of a group, as prior=... does."""
    key, equals, value = argument.lstrip("+").partition("=")
    return bool(equals and key and group_options(key)) and not value.lstrip().startswith("{")


def group_options(key: str) -> list[str]:
    """The options of a group: its own and, under hydra/, those of the plugins that are installed."""
    return GlobalHydra.instance().config_loader().get_group_options(key.partition("@")[0])


def alternatives(chosen: Sequence[str]) -> Iterator[list[str]]:
    """The options that a sweep takes: the first of every group, then each of the others in turn."""
    values = [list(single_values(argument)) for argument in chosen]
    first = [each[0] for each in values]
    yield first
    for index, each in enumerate(values):
        for other in each[1:]:
            yield [*first[:index], other, *first[index + 1 :]]


def layout(config: str, search: Sequence[str], chosen: Sequence[str]) -> Layout:
    """What can be set beside these options. Raises UserError for options, and groups, that are not there."""
    try:
        cfg = compose(config, [*search, *chosen], return_hydra_config=True)
    except UNREADABLE as error:
        if not chosen:
            raise UserError(f"the configuration {config} cannot be read: {hints.in_our_words(error)}") from error
        at = max(range(len(chosen)), key=lambda index: (key_of(chosen[index]).count("/"), index))
        others = [*chosen[:at], *chosen[at + 1 :]]
        raise UserError(about_option(chosen[at], layout(config, search, others))) from error
    values = dict(flat(OmegaConf.to_container(cfg)))
    for key, value in values.items():
        if isinstance(value, str) and re.fullmatch(r"\$\{[\w.]+\}", value) and not key.startswith("hydra."):
            values[key] = OmegaConf.select(cfg, key)
    return Layout(values, OmegaConf.to_container(cfg.hydra.runtime.choices))  # type: ignore[arg-type]


def flat(settings: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key and its value, that of sections too."""
    for key, value in settings.items():
        yield f"{prefix}{key}", value
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")


def about_option(argument: str, known: Layout) -> str:
    """One line about an option that Hydra refused beside others, which `known` is made of."""
    key, value = key_of(argument), argument.partition("=")[2].strip("'\"")
    if argument.startswith("+") and key in known.choices:
        return f"{argument}: {key} has a choice already; write it without the plus"
    if key not in known.choices and (parent := key.rpartition("/")[0]) in known.choices:
        return f"{argument}: {parent}={known.choices[parent]} has no {key}"
    if key not in known.choices and not argument.startswith("+"):
        return hints.unknown(argument, key, [*known.values, *known.choices])
    return hints.no_option(argument, key, value, group_options(key), list(known.values))


# Single settings


def accepted(argument: str, layouts: Sequence[Layout], multirun: bool, beside: Sequence[str]) -> str:
    """The override of a setting as Hydra may read it. Raises UserError where it is none."""
    sign, key, equals, value = re.fullmatch(r"(\+\+|\+|~|)([^=]*)(=?)(.*)", argument, re.S).groups()  # type: ignore[union-attr]
    known = layouts[0]
    if not equals and sign != "~":
        raise UserError(hints.words(beside, known.values))
    check_key(sign, key, argument, layouts)
    if value in (group_options(group := key.replace(".", "/")) if "." in key else ()):
        raise UserError(f"{argument}: a choice is written with slashes, {group}={value}")
    if sign == "~":
        return argument
    default = known.values.get(key)
    if key in known.values and is_text(key, default):  # what is added may be anything, as a list or a section
        return f"{sign}{key}={text_value(key, value, default, multirun, known.values)}"
    override = parsed(argument)
    if override is None:
        raise UserError(hints.unreadable(argument, key, default))
    if override.is_sweep_override() and not multirun:
        raise UserError(f"{argument!r} is several values: add -m for a run of each, or give one")
    if override.is_sweep_override() and key.startswith("hydra."):
        raise UserError(f"{argument!r} is several values: all runs of a sweep share {key}")
    return argument


def check_key(sign: str, key: str, argument: str, layouts: Sequence[Layout]) -> None:
    """Raises UserError for a key that is not there, where it has to be, or is there already."""
    if key == "hydra.searchpath":
        raise UserError(f"{argument}: a folder of configuration is named by --config-dir <folder>")
    if sign == "~" and key in layouts[0].choices:
        raise UserError(f"{argument}: a choice cannot be taken away; choose one of {', '.join(group_options(key))}")
    lacking = next((each for each in layouts if key not in each.values), None)
    if sign == "+" and lacking is None:
        raise UserError(f"{argument}: {key} is there already; write it without the plus")
    if lacking is not None and (sign in ("", "~") or key.partition(".")[0] not in lacking.values):
        if any(key in each.values for each in layouts):
            raise UserError(f"{argument}: not all runs of this sweep have a setting {key}")
        raise UserError(hints.unknown(argument, key, [*lacking.values, *lacking.choices]))


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


# The whole


def check_complete(cfg: DictConfig, multirun: bool) -> None:
    """Raises UserError for what was not given, and for a folder of results that cannot be made."""
    # Without Hydra's own keys: its sweep folder names a job number, which a single run has not.
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    missing = sorted(OmegaConf.missing_keys(own))
    if missing:
        raise UserError(hints.missing(missing[0]))
    folder = cfg.hydra.sweep.dir if multirun else cfg.hydra.run.dir
    check_folder(Path(folder))
    try:
        OmegaConf.create({"hydra": folder if multirun else ""})
    except OmegaConfBaseException as error:
        raise UserError(f"hydra.sweep.dir={folder}: the folder of a sweep may hold ${{ only with its }}") from error


def check_folder(folder: Path) -> None:
    """Raises UserError where `folder` neither is nor could become a folder that can be written to."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise UserError(
            f"cannot write to the folder {folder}: {nearest} is not a folder you may write to; choose another"
        )


def check_words(settings: Sequence[str]) -> None:
    """Raises UserError for prompts that the built-in prior cannot read, before it is loaded."""
    from text23d.worlds.objects.caption import known_tokens, parse

    for setting in settings:
        if key_of(setting) not in PROSE:
            continue
        for single in single_values(setting):
            override = parsed(single)
            text = override.value() if override else None
            said = OmegaConf.create({"text": text}).text  # without the backslashes that keep ${seed} a text
            if key_of(setting) == "prompt":
                parse(said)
            elif said:
                known_tokens(said, "prior.negative")
