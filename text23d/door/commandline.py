"""The command line of a verb: Hydra's own options, wherever they stand, and the settings."""

from __future__ import annotations

import os
import re
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig, OmegaConf

from text23d.company import following
from text23d.compose import in_full, plain
from text23d.door import foreign, hints
from text23d.door.layout import configuration, key_of, parsed
from text23d.door.overrides import check
from text23d.door.prompts import read_prompts, runs_of
from text23d.engine.resume import AUTO, newest_unfinished, require_run
from text23d.errors import UserError
from text23d.paths import config_of
from text23d.quoting import QUOTED, quoted


@dataclass(frozen=True)
class CommandLine:
    """What Hydra is given.

    runs: whether the verb is called, as it is not for --cfg and the like. multirun: whether for a sweep.
    folder: of a single run, where its name holds a `${` that Hydra would take for a reference; Hydra is told another.
    sweep: the runs of a sweep of the main job; None: a single run, or a sweep of another verb, which is Hydra's.
    """

    arguments: list[str]
    config_path: str
    config_name: str
    runs: bool
    folder: str | None = None
    sweep: Sweep | None = None
    multirun: bool = False


@dataclass(frozen=True)
class Sweep:
    """runs: the settings of each; folder: of all; hydra: settings of Hydra's own; config_dir: of --config-dir."""

    runs: list[list[str]]
    folder: str
    hydra: list[str]
    config_dir: str | None


def read(verb: str, arguments: Sequence[str]) -> CommandLine:
    """The command line of a verb. Raises UserError, in one line, for every mistake that can be seen before it runs."""
    given, own = options(arguments), config_of(verb)
    assert own is not None, verb
    given.overrides = [in_full(each) for each in given.overrides]
    past = resumed(given.overrides) if verb == "run" else None
    runs = not (given.cfg or given.info or given.hydra_help or given.shell_completion)
    prompts = listed(given.overrides) if verb == "run" and runs else []
    multirun = given.multirun or any(re.fullmatch("hydra.mode=multirun", each, re.I) for each in given.overrides)
    if prompts:  # stands for as many values of the prompt, of which the first is checked with the other settings
        multirun = True
        given.overrides = [each for each in given.overrides if key_of(each) != "prompts"] + [
            f"prompt={quoted(prompts[0])}"
        ]
    given.config_path, given.config_dir = (
        each and os.path.abspath(each) for each in (given.config_path, given.config_dir)
    )
    path, name = given.config_path or str(own.parent), (given.config_name or own.stem).removesuffix(".yaml")
    others = [each for each in (given.config_dir, given.config_path, given.config_name) if each]
    if others:
        foreign.forbid([path, *([given.config_dir] if given.config_dir else [])], name)
    with configuration(path, given.config_dir):
        if verb == "run":
            given.overrides = named(given.overrides, multirun)
        settings, cfg = check(name, given.overrides, multirun, runs and past in (None, AUTO))
        sweep = None
        if verb == "run" and runs and multirun:
            shared, hydra = divided(settings[:-1] if prompts else settings)
            sweep = Sweep(runs_of(shared, prompts), cfg.hydra.sweep.dir, hydra, given.config_dir)
    if others:
        with configuration(own.parent):
            foreign.compare(cfg.hydra, own.stem, settings, others[0])
    if given.package and OmegaConf.select(cfg, given.package, throw_on_missing=False) is None:
        raise UserError(f"--package {given.package}: {hints.near(given.package, [str(key) for key in cfg])}")
    folder = None
    if past is not None and runs:
        folder = going_on(past, cfg, multirun)
    if folder is None and runs and not multirun and "${" in cfg.hydra.run.dir:
        folder = os.path.abspath(cfg.hydra.run.dir)
    if folder is not None:
        settings.append("hydra.run.dir=.")
    # Hydra understands its options only before all settings.
    return CommandLine([*flags(given), *settings], path, name, runs, folder, sweep, multirun)


def listed(overrides: Sequence[str]) -> list[str]:
    """The prompts of the file that prompts= names; none without it. Raises UserError where there are none in it, and
    where prompt= is given as well."""
    files = [each.partition("=")[2] for each in overrides if key_of(each) == "prompts"]
    if not files or files[-1] == "null":
        return []
    if any(key_of(each) == "prompt" for each in overrides):
        raise UserError(f"prompts={files[-1]} and prompt= exclude each other: give one")
    name = files[-1][1:-1] if re.fullmatch(QUOTED, files[-1], re.S) else files[-1]
    return read_prompts(Path(name))


def named(overrides: Sequence[str], multirun: bool) -> list[str]:
    """The overrides, with a prompt that names the run where all that is asked for is for parts: their prompts."""
    keys = [key_of(each) for each in overrides]
    if "regions" not in keys or "prompt" in keys:
        return list(overrides)
    override = parsed([each for each in overrides if key_of(each) == "regions"][-1])
    said = None if override is None or override.is_sweep_override() else override.value()
    prompts = list(said.values()) if isinstance(said, dict) else []
    if isinstance(said, list):
        prompts = [each["prompt"] for each in said if isinstance(each, dict) and "prompt" in each]
    prompts = [each for each in prompts if isinstance(each, str) and each.strip()]
    name = ", ".join(prompts)  # which is read as it is typed, but for a sweep
    return [*overrides, f"prompt={quoted(name) if multirun else name}"] if prompts else list(overrides)


def divided(settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """The settings of runs, and those of Hydra's own. Raises UserError for those of a sweeper, which has none here."""
    hydra = [each for each in settings if re.match(r"hydra[./]", each.lstrip("+~"))]
    for each in hydra:
        if re.match(r"hydra[./]sweeper", each.lstrip("+~")) and each != "hydra/sweeper=basic":
            raise UserError(
                f"{hints.brief(each)}: the values of a sweep are written where they are set, as in seed=0,1"
            )
    return [each for each in settings if each not in hydra], hydra


def resumed(overrides: Sequence[str]) -> str | None:
    """The folder of the run that is to go on, or AUTO; None: a run begins."""
    values = [each.partition("=")[2].strip("'\"") for each in overrides if key_of(each) == "resume.folder"]
    return values[-1] if values and values[-1] not in ("", "null") else None


def going_on(past: str, cfg: DictConfig, multirun: bool) -> str | None:
    """The folder of the run that goes on; None: one begins, or each of a sweep looks into its own folder. Raises
    UserError where there is no run."""
    if past == AUTO:
        pattern = OmegaConf.to_container(cfg.hydra, resolve=False)["run"]["dir"]  # type: ignore[index, call-overload]
        if multirun or "${" not in pattern:
            return None
        root = Path(pattern.partition("${")[0]).absolute()
        found = newest_unfinished(root, plain(cfg))
        said = f"goes on with {found}" if found else f"no unfinished run of this configuration below {root}: one begins"
        if not following():
            print(f"text23d: resume=auto: {said}", file=sys.stderr)
        return str(found) if found else None
    if multirun:
        raise UserError(f"resume={past}: one run goes on at a time; in a sweep give resume=auto and the sweep's folder")
    require_run(Path(past))
    return os.path.abspath(past)


def flags(given: Namespace) -> Iterator[str]:
    """Hydra's own options as they are written, without the settings."""
    for name, value in vars(given).items():
        if value and name != "overrides":
            yield f"--{name.replace('_', '-')}"
            if value is not True:
                yield value


def options(arguments: Sequence[str]) -> Namespace:
    """Hydra's own options, and the settings as `overrides`. Raises UserError for other options."""
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
