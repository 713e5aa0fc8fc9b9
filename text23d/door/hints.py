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
    "prompts": "prompts=<text file with one prompt a line>",
    "constraint.picture": "constraint.picture=picture.png",
    "constraint.mask": "constraint.mask=mask.png",
}
"""How settings are written that have to be given."""
PACKAGES = {
    "joblib": "hydra-joblib-launcher",
    "ray": "hydra-ray-launcher",
    "ray_aws": "hydra-ray-launcher",
    "rq": "hydra-rq-launcher",
    "slurm": "hydra-submitit-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
    "optuna": "hydra-optuna-sweeper",
    "ax": "hydra-ax-sweeper",
    "nevergrad": "hydra-nevergrad-sweeper",
    "colorlog": "hydra-colorlog",
}
"""Choices under hydra/, and what has to be installed for them."""


def brief(text: str) -> str:
    """A text as it can stand in a line."""
    return text if len(text) <= 100 else f"{text[:80]}..."


def missing(key: str) -> str:
    """A setting without a default was not given."""
    return f"no {key} given: add one, for example {EXAMPLES.get(key, key + '=...')}"


def unknown(argument: str, key: str, keys: Sequence[str]) -> str:
    """A key that no setting has."""
    last = key.rpartition(".")[2]
    keys = [each for each in keys if (each[:5] == "hydra") == (key[:5] == "hydra") and each[-8:] != "_target_"]
    leaves = [each for each in keys if each.rpartition(".")[2] == last]
    return f"no setting named {brief(key)!r} ({brief(argument)}): {near(key, leaves or keys)}"


def no_option(argument: str, key: str, value: str, options: Sequence[str], keys: Sequence[str]) -> str:
    """An option that a group has not; of a setting of the same name, as `method.views` for `views=4`, that as well."""
    if key.startswith("hydra/") and value in PACKAGES:
        return f"{argument}: {value} is not installed; pip install {PACKAGES[value]}"
    others = [f"{each}={value}" for each in keys if each.rpartition(".")[2] == key and each[:6] != "hydra."]
    alike = difflib.get_close_matches(value, options, 1, 0.5)
    guess = f"did you mean {others[0]}?" if others and not alike else near(value, options)
    return f"no {key} named {brief(value)!r}: {guess}; known are {', '.join(options)}"


def words(arguments: Sequence[str], values: Mapping[str, Any]) -> str:
    """Arguments without an equals sign: most often a text that has spaces and no quotes, or a key with none."""
    start = next(index for index, each in enumerate(arguments) if "=" not in each and each[:1] != "~")
    end = next((index for index in range(start, len(arguments)) if "=" in arguments[index]), len(arguments))
    said, before = " ".join(arguments[start:end]), arguments[start - 1] if start else ""
    if arguments[start] in values:
        return (
            f"{said!r} is no setting: write {EXAMPLES.get(arguments[start], arguments[start] + '=...')}, without spaces"
        )
    text = next((each for each in EXAMPLES if each in values), None)
    if text and before.startswith(f"{text}=") and " " not in before:
        said = f"{before.partition('=')[2]} {said}".strip()
    elif text is None or any(each.startswith(f"{text}=") for each in arguments):
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
    said = f"cannot read {brief(argument)!r}"
    if isinstance(default, dict):
        return f"{said}: it has settings of its own, such as {key}.{next(iter(default), '...')}"
    if isinstance(default, list) or argument.partition("=")[2].startswith("["):
        return f"""{said}: expected a list, as in {key}=[1,2] or {key}=["method.views=4"]"""
    return f"{said}: expected something like {key}={brief('0.5' if default is None else str(default))}"


def near(word: str, options: Sequence[str]) -> str:
    """The options that look most like `word`, or some."""
    different = list(dict.fromkeys(options))
    matches = difflib.get_close_matches(word, different, 3, 0.5) or different[:3]
    return f"did you mean {' or '.join(matches)}?"


def in_our_words(error: BaseException) -> str:
    """One line about an error of Hydra's or OmegaConf's that nothing above has foreseen."""
    name, key = type(error).__name__, getattr(error, "full_key", None) or getattr(error, "key", None)
    if name == "MissingMandatoryValue":
        return missing(str(key))
    if name == "UnsupportedInterpolationType":
        return f"{key}: its ${{...}} is computed by nothing here; a folder of configuration reads no environment"
    if name.startswith("Interpolation"):
        return f"{key}: refers to a setting that is not there or not given"
    if key:
        return f"the setting {key} is not there, or is of another kind than is asked for; see --cfg job"
    file = getattr(error, "missing_cfg_file", None)
    return f"no configuration named {file}" if file else "the settings do not go together; see --cfg job"
