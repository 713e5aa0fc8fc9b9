"""The settings on the command line: every one known, texts quoted, and the whole composed once, before anything heavy
is imported."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from text23d.compose import composing, without_hydra
from text23d.door import foreign, hints
from text23d.door.hints import brief
from text23d.door.layout import (
    UNREADABLE,
    Layout,
    alternatives,
    compose_all,
    configuration,
    group_options,
    is_choice,
    key_of,
    layout,
    parsed,
    single_values,
)
from text23d.door.text import PROSE, is_text, text_value
from text23d.errors import UserError
from text23d.paths import conf_dir

BUILTIN = ("builtin", "objects")
"""The prior and the world whose words are known without loading anything."""


def check(
    config: str, arguments: Sequence[str], multirun: bool = False, runs: bool = True
) -> tuple[list[str], DictConfig]:
    """The settings as Hydra may read them, and the configuration that they make, Hydra's part included; of a sweep,
    that of its first run. To be called inside `layout.configuration`.

    runs: whether the verb is to run, which wants settings complete.
    Raises UserError for keys and options that are not there, with near misses, for values that cannot be read, for
    what is missing, in a single run for words that the built-in prior does not know, and for a folder that cannot be
    written to.
    """
    chosen = [argument for argument in arguments if is_choice(argument)]
    layouts = [layout(config, each) for each in alternatives(chosen)]
    settings = [each if each in chosen else accepted(each, arguments, layouts, multirun) for each in arguments]
    cfg = composed(config, [next(single_values(each)) for each in settings], arguments)
    foreign.check_hydra(cfg.hydra)
    if runs:
        try:
            check_complete(cfg, multirun)
        except OmegaConfBaseException as error:
            raise UserError(hints.in_our_words(error)) from error
        # Each run of a sweep tells its own mistakes: one bad prompt stops no other.
        if not multirun and all(
            (each.choices.get("prior"), each.choices.get("world", "objects")) == BUILTIN for each in layouts
        ):
            check_words(settings)
    return settings, cfg


def check_passed_on(settings: Iterable[Sequence[str]]) -> None:
    """The settings that a study passes on to its runs, each sequence to some. Raises UserError, in one line, where the
    main job has no such setting or cannot read it."""
    with composing(), configuration(conf_dir()):
        for each in settings:
            check("config", each, runs=False)


def accepted(argument: str, arguments: Sequence[str], layouts: Sequence[Layout], multirun: bool) -> str:
    """The override of a setting, one of `arguments`, as Hydra may read it. Raises UserError where it is none."""
    sign, key, equals, value = re.fullmatch(r"(\+\+|\+|~|)([^=]*)(=?)(.*)", argument, re.S).groups()  # type: ignore[union-attr]
    known, said = layouts[0], brief(argument)
    if not equals and sign != "~":
        raise UserError(hints.words(arguments, known.values))
    check_key(sign, key, argument, layouts)
    if "." in key and value in group_options(group := key.replace(".", "/")):
        raise UserError(f"{said}: a choice is written with slashes, {group}={value}")
    if sign == "~":
        return argument
    default = known.values.get(key)
    if key in known.values and is_text(key, default):  # what is added may be anything, as a list or a section
        return f"{sign}{key}={text_value(key, value, default, multirun, known.values)}"
    override = parsed(argument)
    if override is None:
        raise UserError(hints.unreadable(argument, key, default))
    if override.is_sweep_override() and not multirun:
        raise UserError(f"{said!r} is several values: add -m for a run of each, or give one")
    if override.is_sweep_override() and key.startswith("hydra."):
        raise UserError(f"{said!r} is several values: all runs of a sweep share {key}")
    return argument


def check_key(sign: str, key: str, argument: str, layouts: Sequence[Layout]) -> None:
    """Raises UserError for a key that is not there, where it has to be, or is there already."""
    said = brief(argument)
    if key == "hydra.searchpath":
        raise UserError(f"{said}: a folder of configuration is named by --config-dir <folder>")
    if key.startswith(("hydra.hydra_logging", "hydra.job_logging")):
        raise UserError(
            f"{said}: Hydra's logging is chosen as a whole, as in hydra/job_logging=default hydra.verbose=true"
        )
    if sign == "~" and key in layouts[0].choices:
        raise UserError(f"{said}: a choice cannot be taken away; choose another, as in {key}=...")
    lacking = next((each for each in layouts if key not in each.values), None)
    if sign == "+" and lacking is None:
        raise UserError(f"{said}: {key} is there already; write it without the plus")
    if lacking is not None and (sign in ("", "~") or key.partition(".")[0] not in lacking.values):
        if any(key in each.values for each in layouts):
            raise UserError(f"{said}: not all runs of this sweep have a setting {key}")
        raise UserError(hints.unknown(argument, key, [*lacking.values, *lacking.choices]))


def composed(config: str, settings: Sequence[str], arguments: Sequence[str]) -> DictConfig:
    """The whole configuration. Raises UserError naming the first of `arguments` that does not go with those before."""
    try:
        return compose_all(config, settings)
    except UNREADABLE as error:
        for end, argument in enumerate(arguments, 1):
            try:
                compose_all(config, settings[:end])
            except UNREADABLE:
                said = f"{brief(argument)!r} does not go with the other settings"
                raise UserError(f"{said}; --cfg job shows what there is") from error
        raise UserError(hints.in_our_words(error)) from error


def check_complete(cfg: DictConfig, multirun: bool) -> None:
    """Raises UserError for what was not given, and for a folder of results that cannot be made."""
    # Without Hydra's own keys: its sweep folder names a job number, which a single run has not.
    missing = sorted(OmegaConf.missing_keys(without_hydra(cfg)))
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
