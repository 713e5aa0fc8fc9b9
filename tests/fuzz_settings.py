"""python tests/fuzz_settings.py count=300: random settings, right and wrong, told in one line or run to a sound end.

Everything that conf/ holds is set at random: groups to their options and to words that are none, values to numbers in
and out of range, other types, quotes, and letters of other alphabets. What composes runs in this process, tiny, and
command=60 of them by the command line, too. No case may end in a traceback, nor be done with weights that are not
finite or without a result.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny import LOOP, NERF

from text23d.compose import compose
from text23d.engine.job import execute
from text23d.errors import UserError
from text23d.files import load_tensors
from text23d.paths import conf_dir

HUB = ("hub", "sd15", "sd21", "sdxl", "deepfloyd_if", "sd3", "flux", "mvdream")
TINY = (
    *("outputs=minimal", "stages=1", "device=cpu", "method.iterations=1", *LOOP[1:], *NERF),
    *("turntable.frames=2", "turntable.size=16", "mesh.resolution=16", "mesh.texture=16", "mesh.faces=200"),
)
PROMPTS = (
    "a red car",
    "a blue mug on a brown table",
    "",
    "a zeppelin",
    "ein rotes Auto",
    "赤い車",
    "a 'red' car",
    'a "red" car',
    "{}",
    "a=b",
    "a,b",
)
WRONG = (
    "-1",
    "0",
    "1e400",
    "nan",
    "null",
    "true",
    "text",
    "'7'",
    "[]",
    "[1,2]",
    "{}",
    "{a: 1}",
    "1_0",
    "0x10",
    "é",
    "''",
    "-inf",
    "1e-30",
    "???",
    "${seed}",
    "${nothing}",
)
NUMBERS = ("0.5", "1", "2", "3", "0.9", "1.5", "0.1", "4", "8", "16")
GROUPS = {
    name: sorted(each.stem for each in (conf_dir() / name).glob("*.yaml"))
    for name in (
        *("method", "method/inversion", "method/langevin", "method/optimizer", "method/sigma", "views", "prior"),
        *("constraint", "representation", "mesh", "task", "world"),
    )
}
COSTLY = (
    "iterations",
    "views.count",
    "size",
    "frames",
    "hidden",
    "levels",
    "log2_table",
    "steps",
    "churn",
    "resolution",
)
"""Settings of which only small values are drawn among the right ones."""


def leaves(cfg: Any, prefix: str = "") -> list[str]:
    if not isinstance(cfg, dict):
        return [prefix]
    return [name for key, value in cfg.items() for name in leaves(value, f"{prefix}.{key}" if prefix else str(key))]


def overrides(rng: random.Random, names: Sequence[str]) -> list[str]:
    """The settings of one case."""
    found = []
    for group in rng.sample(list(GROUPS), rng.choice([0, 0, 1, 1, 2])):
        option = rng.choice(GROUPS[group]) if rng.random() < 0.85 else rng.choice(WRONG)
        if option not in HUB:  # which ask for a model to download
            found.append(f"{group}={option}")
    for name in rng.sample(list(names), rng.choice([0, 1, 1, 2, 3])):
        small = any(each in name for each in COSTLY)
        value = rng.choice(WRONG if rng.random() < 0.4 else NUMBERS[:3] if small else NUMBERS)
        found.append(f"{rng.choice(['', '', '', '+', '++', '~'])}{name}={value}")
    if rng.random() < 0.1:
        found.append(
            rng.choice(
                ["sead=1", "method.itertions=3", "=", "a", "prompt", "seed==1", "resume=/nowhere", "-x", "checkpoint=3"]
            )
        )
    return found


def verdict(cfg: dict[str, Any], folder: Path) -> str:
    """How the run ends: "done", "told", or what is wrong with it."""
    try:
        summary = execute(cfg, folder)
    except UserError as error:
        return "told" if len(str(error).splitlines()) == 1 else f"FAULT several lines: {error}"
    except Exception:
        return f"FAULT traceback: {traceback.format_exc()[-600:]}"
    return sound(folder, summary["iterations"] == cfg["method"]["iterations"])


def sound(folder: Path, all_iterations: bool = True) -> str:
    phi = list(folder.glob("*.safetensors"))
    try:
        values = [tensor for each in phi for tensor in load_tensors(each, each.stem)[0].values()]
    except UserError as error:
        return f"FAULT {error}"
    if not values or not all_iterations or not (folder / "summary.json").exists():
        return "FAULT said to be done without a result"
    return "done"


def commanded(given: Sequence[str], folder: Path) -> str:
    """The same by the command line."""
    command = [sys.executable, "-m", "text23d.run", *given, f"hydra.run.dir={folder}"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent)
    if "Traceback" in ended.stderr or "Error executing" in ended.stderr or ended.returncode not in (0, 2):
        return f"FAULT {ended.returncode} {ended.stderr[-600:]}"
    if ended.returncode:
        return "told"
    return sound(folder) if folder.exists() else "FAULT done, and no folder"


def fuzz(count: int, command: int, seed: int, prior: Path | None, folder: Path) -> tuple[Counter[str], list[str]]:
    """Counts of the verdicts, and the faults."""
    rng, counts, faults = random.Random(seed), Counter[str](), list[str]()
    names = [name for name in leaves(compose("config", ["prompt=x"])) if name not in ("prompt", "prior.weights")]
    weights = [] if prior is None else [f"prior.weights={prior}"]
    for number in range(count):
        given = ["prompt=" + rng.choice(PROMPTS) if rng.random() < 0.3 else "prompt=a red car"]
        given += [*TINY, *weights, *overrides(rng, names)]
        place = folder / str(number)
        if number < command:
            found = commanded(given, place)
            counts["command line, " + found.split()[0]] += 1
        else:
            try:
                cfg = compose("config", given)
            except UserError as error:
                found = "refused" if len(str(error).splitlines()) == 1 else f"FAULT several lines: {error}"
            except Exception:
                found = f"FAULT traceback: {traceback.format_exc()[-600:]}"
            else:
                found = verdict(cfg, place)
            counts[found.split()[0]] += 1
        if found.startswith("FAULT"):
            faults.append(f"{given[len(TINY) + 1 :]} {given[0]}: {found}")
            print(faults[-1], file=sys.stderr, flush=True)
    return counts, faults


def main(arguments: Sequence[str]) -> int:
    given = dict(each.split("=", 1) for each in arguments)
    count, command, seed = (
        int(given.get(name, default)) for name, default in (("count", 300), ("command", 60), ("seed", 0))
    )
    with tempfile.TemporaryDirectory() as folder:
        prior = Path(given["prior"]) if "prior" in given else None
        counts, faults = fuzz(count, command, seed, prior, Path(folder))
    print(dict(counts), f"{len(faults)} faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
