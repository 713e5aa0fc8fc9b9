"""What --help prints: the verbs, and of one verb all that is most often set, with the comments of its configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from text23d.paths import config_of

USAGE = {
    "run": 'prompt="a red car"',
    "view": "run=<folder of a run>",
    "export": "run=<folder of a run>",
    "gallery": "runs=<folder with runs below it>",
    "dataset": "prompts=<text file with one prompt a line>",
}
"""What a verb wants to be told."""


def overview(verbs: Mapping[str, str]) -> str:
    """All verbs, one a line."""
    return "\n".join(
        [
            "usage: text23d <verb> key=value ...        (or python -m text23d.<verb> key=value ...)",
            "",
            *(f"  {verb:<13}{does}" for verb, does in verbs.items()),
            "",
            'the first thing to try: text23d run prompt="a red car"',
            "text23d <verb> --help says what a verb can be told; text23d --version",
        ]
    )


def page(verb: str, does: str) -> str:
    """What a verb does, its groups with their options, and its settings with their comments."""
    path = config_of(verb)
    assert path is not None, verb
    text = path.read_text(encoding="utf-8")
    found = list(options(path.parent, list(groups(yaml.safe_load(text)["defaults"]))))
    choices = [f"  {group + '=' + name:<38}{what}".rstrip() for group, name, what in found]
    lines = [f"usage: text23d {verb} {USAGE.get(verb, '')} key=value ...".replace("  ", " "), "", f"{verb} {does}."]
    lines += ["", "Choices:", *choices] if choices else []
    lines += ["", "Settings:", *(f"  {line}" for line in settings(path))]
    lines += ["", "--cfg job shows everything that can be set. -m makes a run of each of several values: seed=0,1 -m."]
    return "\n".join([*lines, "A text with spaces wants the quotes of the shell."])


def groups(defaults: list[object]) -> Iterator[tuple[str, str]]:
    """The groups in a list of defaults, each with the option that it begins with."""
    for each in defaults:
        if isinstance(each, dict):
            ((group, option),) = each.items()
            name = group.removeprefix("override ").partition("@")[0].strip("/")
            if not group.startswith("override ") and name != "base":
                yield name, option


def options(conf: Path, chosen: list[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    """(group, option, its first comment) of these groups, and of those inside their options; where there is but one
    option, there is nothing to choose."""
    for group, default in chosen:
        for path in sorted((conf / group).glob("*.yaml")) if several(conf / group) else []:
            lines = path.read_text(encoding="utf-8").splitlines()
            comment = next((line[2:] for line in lines if line.startswith("# ") and "@package" not in line), "")
            yield group, path.stem, ("(default) " if path.stem == default else "") + comment
        standard = yaml.safe_load((conf / group / f"{default}.yaml").read_text(encoding="utf-8")) or {}
        inside = {folder.name: "" for folder in sorted((conf / group).iterdir()) if folder.is_dir()}
        inside |= dict(groups(standard.get("defaults", [])))
        yield from options(conf, [(f"{group}/{name}", option) for name, option in inside.items() if name != "base"])


def several(folder: Path) -> bool:
    return len(list(folder.glob("*.yaml"))) > 1


def settings(path: Path) -> Iterator[str]:
    """The lines of a configuration that a person may set: its own, and those of its groups of one option."""
    text, skip = path.read_text(encoding="utf-8"), False
    for group in re.findall(r"^  - ([\w@]+): \w+", text, re.M):
        name, _, package = group.partition("@")
        if not several(path.parent / name):
            (only,) = (path.parent / name).glob("*.yaml")
            yield from [] if package else [f"{name}:"]
            yield from (f"{'' if package else '  '}{line}" for line in settings(only))
    for line in text.splitlines():
        if line and line[0] not in " #-":
            skip = line.startswith(("defaults:", "hydra:"))
        if line.strip() and not skip and not line.startswith("#"):
            yield line
