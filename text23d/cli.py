"""The door every verb goes through: Hydra with prompts that may hold anything, and mistakes told in one line.

Exit status: 0 done, 1 a defect of ours (with a traceback), 2 the user's mistake, 130 interrupted.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from text23d.errors import UserError
from text23d.paths import conf_dir, slug

if TYPE_CHECKING:
    import torch

FILES = ("representation.start", "constraint.picture", "constraint.mask")
TEXT_KEYS = ("prompt", "prior.negative", "run", "format", "mesh.format", *FILES)
EXAMPLES = {"prompt": 'prompt="a red car"', **{name: f"{name}=picture.png" for name in FILES}}


def main(verb: Callable[[DictConfig], None], config: str) -> None:
    """Run `verb` under Hydra with the packaged configuration named `config`, and exit with the right status."""
    # Hydra would otherwise turn every error into its own page and exit before we can say it in one line.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    register_resolvers()
    multirun = any(argument in ("-m", "--multirun") for argument in sys.argv[1:])
    try:
        sys.argv[1:] = [quote_text(argument, multirun) for argument in sys.argv[1:]]
        given, unknown = get_args_parser().parse_known_intermixed_args(sys.argv[1:])
        if unknown:
            raise UserError(f"no option {unknown[0]!r}: settings are written key=value, as in {EXAMPLES['prompt']}")
        # Hydra understands its options only before all settings.
        sys.argv[1:] = [a for a in sys.argv[1:] if a not in given.overrides] + given.overrides
        if not (given.help or given.hydra_help or given.cfg or given.info or given.shell_completion):
            check_overrides(config, given.overrides, multirun)
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config)(plain_spoken(verb))()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        stop(str(error), 2)
    except OSError as error:
        stop(f"{error.strerror or error}: {error.filename or ''}; free some space or choose another folder", 2)
    except KeyboardInterrupt as error:
        stop(str(error) or "interrupted", 130)


def plain_spoken(verb: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """`verb` as a Hydra job that ends on the user's mistakes by itself: Hydra would add lines of its own."""

    def job(cfg: DictConfig) -> None:
        try:
            verb(cfg)
        except (UserError, HydraException, OmegaConfBaseException) as error:
            stop(str(error), 2)

    return job


def stop(message: str, status: int) -> None:
    """Say `message` on one line of stderr and exit."""
    print(f"text23d: {' '.join(message.split())}", file=sys.stderr, flush=True)
    sys.exit(status)


def register_resolvers() -> None:
    """`${slug:text}`: see `paths.slug`."""
    OmegaConf.register_new_resolver("slug", slug, replace=True)


def quote_text(argument: str, multirun: bool) -> str:
    """Quote the value of `prompt=...`, so that Hydra's grammar never sees what a person wrote: `null`, `!`, `(` or `=`.

    In a sweep a comma outside quotes separates prompts; in a single run it is part of the prompt.
    """
    key, equals, value = argument.partition("=")
    if not equals or key.lstrip("+") not in TEXT_KEYS:
        return argument
    values = re.findall(r"\s*('(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[^,]+)\s*(?:,|$)", value) if multirun else [value]
    quoted = []
    for text in values or [value]:
        if multirun and len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
            text = text[1:-1]
        text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)  # OmegaConf would read ${seed} as the seed
        escaped = re.sub(r"(\\*)(')", r"\1\1\\\2", text)  # Hydra: backslashes count only before a quote
        escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
        quoted.append(f"'{escaped}'")
    return f"{key}=" + ",".join(quoted)


def check_overrides(config: str, arguments: Sequence[str], multirun: bool) -> None:
    """Compose once before Hydra does. Raises UserError with near misses for unknown keys, groups and broken values."""
    chosen: dict[str, str] = {}  # options of groups, which decide what other keys exist
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for argument in sorted(arguments, key=is_choice, reverse=True):
            candidates = list(single_values(argument)) if multirun else [argument]
            others = [choice for key, choice in chosen.items() if key != key_of(argument)]
            for candidate in candidates:
                try:
                    compose(config, [*others, candidate])
                except (HydraException, OmegaConfBaseException, ValueError) as error:
                    raise UserError(explain(config, others, candidate, error)) from error
            if is_choice(argument):
                chosen[key_of(argument)] = candidates[0]
        if not multirun:
            cfg = compose(config, list(arguments), return_hydra_config=True)
            # Without Hydra's own keys: its sweep folder names a job number, which a single run has not.
            own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
            missing = sorted(OmegaConf.missing_keys(own))
            if missing:
                raise UserError(
                    f"no {missing[0]} given: add one, for example {EXAMPLES.get(missing[0], missing[0] + '=...')}"
                )
            check_folder(Path(cfg.hydra.run.dir))


def key_of(argument: str) -> str:
    """The key that an override sets."""
    return argument.lstrip("+~").partition("=")[0]


def is_choice(argument: str) -> bool:
    """Whether an override chooses an option of a group, as prior=... does."""
    return bool(key_of(argument)) and (conf_dir() / key_of(argument)).is_dir()


def check_folder(folder: Path) -> None:
    """Raises UserError where `folder` neither is nor could become a folder that can be written to."""
    nearest = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise UserError(
            f"cannot write to the folder {folder}: {nearest} is not a folder you may write to; choose another"
        )


def single_values(argument: str) -> Iterator[str]:
    """The overrides that a sweep's `key=a,b` stands for, one by one."""
    override = OverridesParser.create().parse_override(argument)
    if not override.is_sweep_override():
        yield argument
        return
    for value in override.sweep_string_iterator():
        yield f"{override.get_key_element()}={value}"


def explain(config: str, choices: Sequence[str], argument: str, error: Exception) -> str:
    """One line about an override that Hydra refused beside these choices: what was given, and the nearest there is."""
    key, _, value = argument.lstrip("+~").partition("=")
    group = conf_dir() / key
    if group.is_dir():
        options = sorted(path.stem for path in group.glob("*.yaml"))
        return f"no {key} named {value!r}: {near(value, options)}; known are {', '.join(options)}"
    keys = sorted(all_keys(compose(config, list(choices))))
    if key not in keys:
        leaves = [k for k in keys if k.rpartition(".")[2] == key.rpartition(".")[2]]
        return f"no setting named {key!r} ({argument}): {near(key, leaves or keys)}"
    return f"cannot read {argument!r}: {str(error).splitlines()[0]}"


def near(word: str, options: Sequence[str]) -> str:
    matches = difflib.get_close_matches(word, options, 3, 0.5) or list(options[:3])
    return f"did you mean {' or '.join(matches)}?"


def all_keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, config):
        yield f"{prefix}{key}"
        if (
            not OmegaConf.is_missing(config, key)
            and isinstance(config._get_node(key), DictConfig)
            and config[key] is not None
        ):
            yield from all_keys(config[key], f"{prefix}{key}.")


def device(name: str) -> torch.device:
    """See `devices.find_device`; small numbers are taken for zero from now on, as they cost a CPU up to a
    hundredfold."""
    import torch

    from text23d.devices import find_device

    torch.set_flush_denormal(True)
    return find_device(name)
