"""Which run goes on, and whether it is the one that was asked for. Nothing heavy is imported here: the command line
asks before torch is there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeGuard

import yaml

from text23d.engine.folder import CHECKPOINTS, CONFIG, SUMMARY, in_use
from text23d.errors import UserError
from text23d.settings import Flag, Text, shown

AUTO = "auto"
DEPTH = 4
"""Folders below the one that is searched, such as <day>/<sweep>/<member>."""
FREE = ("resume", "checkpoint", "health", "tensorboard", "viewer")
"""The sections and settings that change nothing of what a run makes."""
GROWS = "method.iterations"


@dataclass(frozen=True)
class ResumeSettings:
    """What `resume` in conf/config.yaml explains."""

    folder: Text | None = None
    force: Flag = False


def require_run(folder: Path) -> None:
    """Raises UserError where `folder` holds neither a run's configuration nor a checkpoint, which has it, too."""
    if not ((folder / CONFIG).is_file() or any(folder.glob(f"{CHECKPOINTS}/*.safetensors"))):
        raise UserError(f"no run in {folder}: expected the {CONFIG} that every run writes; check the folder")


def read_config(folder: Path) -> dict[str, Any]:
    """A run's config.yaml as plain data. Raises UserError where it is missing or no configuration."""
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"no run in {folder}: expected the {CONFIG} that every run writes; check the folder")
    try:
        cfg = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: expected the configuration that a run wrote; repeat the run") from error
    if not isinstance(cfg, dict) or not isinstance(cfg.get("representation"), dict):
        raise UserError(f"{path} is no run's configuration: expected a section `representation`; repeat the run")
    return cfg


def write_config(folder: Path, cfg: Mapping[str, Any]) -> None:
    """What `read_config` reads: not whether it was to go on, of which a run's results say nothing. Raises UserError
    where it cannot be written."""
    from text23d.files import write_text  # which imports torch

    plain = {**cfg, **({"resume": asdict(ResumeSettings())} if "resume" in cfg else {})}
    write_text(folder / CONFIG, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=1000))


def asked(saved: Mapping[str, Any], composed: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration of a run that goes on: its own, but for what these overrides set in `composed`."""
    cfg = deepcopy(dict(saved))
    for override in overrides:
        if override.startswith("resume."):
            continue
        name = re.split(r"[@=]", override.lstrip("+~"), maxsplit=1)[0].replace("/", ".")
        *sections, leaf = name.split(".")
        before, after = cfg, composed
        for section in sections:
            before, after = before.setdefault(section, {}), after.get(section, {})
            if not (isinstance(before, dict) and isinstance(after, Mapping)):
                raise UserError(f"{override}: the run that goes on has no section {section}; leave the setting out")
        if leaf in after:
            before[leaf] = after[leaf]
        else:
            before.pop(leaf, None)
    return {**cfg, "resume": composed.get("resume", {})}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The settings in which a run that goes on would differ, as "seed: 0 -> 1". More iterations are no change."""
    old, new = (dict(_flat({name: cfg[name] for name in cfg if name not in FREE})) for cfg in (before, now))
    fewer, more = old.get(GROWS), new.get(GROWS)
    if _whole(fewer) and _whole(more) and more >= fewer:
        del old[GROWS], new[GROWS]
    names = [name for name in {**old, **new} if old.get(name, ...) != new.get(name, ...)]
    return [f"{name}: {_said(old, name)} -> {_said(new, name)}" for name in names]


def are_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two configurations make the same, with as many iterations."""
    return not changes(one, other) and not changes(other, one)


def is_run_of(folder: Path, cfg: Mapping[str, Any]) -> bool:
    """Whether a run of this very configuration lies in `folder`, finished or not."""
    try:
        return are_same(read_config(folder), cfg)
    except UserError:  # there is none, or it is damaged
        return False


def require_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any], force: bool) -> None:
    """Raises UserError, with the differences, where the run in `folder` has another configuration than is asked for
    now, unless `force`."""
    found = changes(before, now)
    if found and not force:
        listed = "; ".join(found[:8]) + (f"; and {len(found) - 8} more" if len(found) > 8 else "")
        raise UserError(
            f"the run in {folder} has another configuration ({listed}): leave these settings out, begin in another "
            "folder, or insist with resume.force=true"
        )


def is_finished(summary: Mapping[str, Any], cfg: Mapping[str, Any]) -> bool:
    """Whether a run with this summary.json has all the iterations that `cfg` asks for."""
    wanted, done = (cfg.get("method") or {}).get("iterations"), summary.get("iterations")
    return not (_whole(wanted) and _whole(done)) or done >= wanted


def newest_unfinished(root: Path, cfg: Mapping[str, Any]) -> Path | None:
    """The folder below `root` of the newest run of this configuration that did not finish, and that nobody is
    running."""
    found = []
    for folder in _runs(root):
        if (folder / SUMMARY).exists():
            continue
        try:
            if not changes(read_config(folder), cfg) and not in_use(folder):
                found.append(folder)
        except UserError:
            continue  # damaged: not the run that is looked for
    return max(found, key=lambda folder: (folder / CONFIG).stat().st_mtime, default=None)


def _runs(root: Path) -> Iterator[Path]:
    """The folders below `root` that hold a run."""
    for place, inside, files in os.walk(root):
        if CONFIG in files:
            yield Path(place)
        if len(Path(place).relative_to(root).parts) >= DEPTH:
            inside.clear()


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting by its dotted name; sequences, which a file holds as lists, as lists."""
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _flat(item, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, list(value) if isinstance(value, tuple) else value


def _said(cfg: Mapping[str, Any], name: str) -> str:
    return shown(cfg[name]) if name in cfg else "nothing"


def _whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
