"""What is said of a mistake in the settings: what was given, what there is, and the nearest to it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

EXAMPLES = {
    "prompt": 'prompt="a red car"',
    "run": "run=outputs/<date>/<time>-a-red-car",
    "runs": "runs=outputs/<date>",
    "constraint.picture": "constraint.picture=picture.png",
    "constraint.mask": "constraint.mask=mask.png",
}
"""How settings are written that have to be given."""
PACKAGES = {
    "joblib": "hydra-joblib-launcher",
    "ray": "hydra-ray-launcher",
    "ray_aws": "hydra-ray-launcher",
    "rq": "hydra-rq-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
    "optuna": "hydra-optuna-sweeper",
    "ax": "hydra-ax-sweeper",
    "nevergrad": "hydra-nevergrad-sweeper",
    "colorlog": "hydra-colorlog",
}
"""Choices under hydra/, and what has to be installed for them."""


def missing(key: str) -> str:
    """A setting without a default was not given."""
    return f"no {key} given: add one, for example {EXAMPLES.get(key, key + '=...')}"


def unknown(argument: str, key: str, keys: Sequence[str]) -> str:
    """A key that no setting has."""
    last = key.rpartition(".")[2]
    keys = [each for each in keys if (each[:5] == "hydra") == (key[:5] == "hydra") and each[-8:] != "_target_"]
    leaves = [each for each in keys if each.rpartition(".")[2] == last]
    return f"no setting named {key!r} ({argument}): {near(key, leaves or keys)}"


def no_option(argument: str, key: str, value: str, options: Sequence[str], keys: Sequence[str]) -> str:
    """An option that a group has not; of a setting of the same name, as `method.views` for `views=4`, that as well."""
    if key.startswith("hydra/") and value in PACKAGES:
        return f"{argument}: {value} is not installed; pip install {PACKAGES[value]}"
    others = [f"{each}={value}" for each in keys if each.rpartition(".")[2] == key and each[:6] != "hydra."]
    alike = difflib.get_close_matches(value, options, 1, 0.5)
    guess = f"did you mean {others[0]}?" if others and not alike else near(value, options)
    return f"no {key} named {value!r}: {guess}; known are {', '.join(options)}"


def words(beside: Sequence[str], values: Mapping[str, Any]) -> str:
    """Arguments without an equals sign: most often a text that has spaces and no quotes, or a key with none."""
    start = next(index for index, each in enumerate(beside) if "=" not in each and each[:1] != "~")
    end = next((index for index in range(start, len(beside)) if "=" in beside[index]), len(beside))
    said = " ".join(beside[start:end])
    text = next((each for each in EXAMPLES if each in values), None)
    if start and text and beside[start - 1].startswith(f"{text}="):
        said = f"{beside[start - 1].partition('=')[2]} {said}".strip()
    elif beside[start] in values:
        return f"{said!r} is no setting: write {EXAMPLES.get(beside[start], beside[start] + '=...')}, without spaces"
    if text is None:
        return unknown(said, said, [*values])
    return f"{said!r} is no setting: did you mean {text}={enquoted(said)}?"


def no_flag(flag: str, arguments: Sequence[str]) -> str:
    """An option that there is not; most often a setting, written as one."""
    key, equals, value = flag.lstrip("-").partition("=")
    after = arguments[arguments.index(flag) + 1 :]
    if not equals and after and "=" not in after[0] and after[0][:1] != "-":
        value = after[0]
    return f"no option {flag!r}: settings are written key=value, as in {key}={enquoted(value) if value else '...'}"


def enquoted(said: str) -> str:
    """A text as a person types it in a shell."""
    return said if re.fullmatch(r"[\w./:-]+", said) else f'"{said}"'


def unreadable(argument: str, key: str, default: Any) -> str:
    """A value that Hydra's grammar cannot read."""
    if isinstance(default, dict):
        return f"cannot read {argument!r}: expected {key}.<name>=..., with {near('', [*default])[13:-1]} for a name"
    example = "0.5" if default is None else str(default).replace(" ", "")
    return f"cannot read {argument!r}: expected something like {key}={example}; a text with brackets wants quotes"


def near(word: str, options: Sequence[str]) -> str:
    """The options that look most like `word`, or some."""
    different = list(dict.fromkeys(options))
    matches = difflib.get_close_matches(word, different, 3, 0.5) or different[:3]
    return f"did you mean {' or '.join(matches)}?"


def in_our_words(error: BaseException) -> str:
    """One line about an error of Hydra's or OmegaConf's that nothing above has foreseen."""
    name, key = type(error).__name__, getattr(error, "full_key", None) or getattr(error, "key", None)
    if name == "MissingMandatoryValue" or name == "InterpolationToMissingValueError":
        found = re.search(r"[Mm]issing (?:mandatory )?(?:value|node)[^:]*: '?([\w.]+)", str(error))
        return missing(found[1] if found else str(key))
    if name == "UnsupportedInterpolationType":
        return f"{key}: expected a value, or ${{another.setting}}; a folder of configuration reads no environment"
    if name.startswith("Interpolation"):
        return f"{key}: refers to a setting that is not there"
    if key:
        return f"the setting {key} is not there, or is of another kind than is asked for; see --cfg job"
    file = getattr(error, "missing_cfg_file", None)
    return f"no configuration named {file}" if file else "the settings do not go together; see --cfg job"
