"""Configuration that comes from somebody else: --config-dir, --config-path and --config-name. It is data.

It may set what a verb is told, of which only the classes in the packaged configuration are built (see settings.py). It
sets nothing of Hydra's own, which instantiates launchers, sweepers, callbacks and loggers and sets the environment, and
it reads no environment variables, so that ${oc.env:...} works on the command line alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from text23d.errors import UserError

TARGETS = (
    r"hydra\._internal\.core_plugins\.basic_(launcher|sweeper)\.\w+"
    r"|hydra_plugins\.hydra_(joblib|submitit|ray|rq)_launcher\.[\w.]+"
)
"""What Hydra may instantiate: its own launcher and sweeper, and the launchers that can be installed."""
COMPUTED = ("runtime", "overrides", "job", "searchpath", "mode")
"""What Hydra fills in itself, `job.env_set` apart."""


def check_hydra(hydra: DictConfig) -> None:
    """Raises UserError where Hydra would instantiate what is none of TARGETS, or call back."""
    settings: Any = OmegaConf.to_container(hydra, resolve=False)
    if settings["callbacks"]:
        raise UserError("hydra.callbacks: text23d calls nothing back; leave it out")
    for key, target in targets(settings, "hydra"):
        if not re.fullmatch(TARGETS, str(target)):
            raise UserError(
                f"{key}={target}: expected a launcher or a sweeper of Hydra's; nothing else is instantiated"
            )


def targets(settings: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Every `_target_` below `key`."""
    items = settings.items() if isinstance(settings, dict) else enumerate(settings)
    for name, value in items:
        if name == "_target_":
            yield f"{key}.{name}", value
        if isinstance(value, dict | list):
            yield from targets(value, f"{key}.{name}")


def forbid(folders: Sequence[str], config: str) -> None:
    """Before the configuration is composed of these folders: no environment, and no further places to read from, of
    which a pkg:// would be imported. Raises UserError for a folder that is not there."""
    OmegaConf.clear_resolver("oc.env")
    for folder in folders:
        if not os.path.isdir(folder):
            raise UserError(f"no folder {folder}: expected one with configuration files; check --config-dir")
        path = Path(folder, f"{config}.yaml")
        if not path.is_file():
            continue
        try:
            settings = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, OSError, ValueError) as error:
            raise UserError(f"cannot read {path}: expected a YAML file of settings") from error
        if "searchpath" in str(settings.get("hydra") if isinstance(settings, dict) else ""):
            raise UserError(f"{path} sets hydra.searchpath: name the folder with --config-dir instead")


def compare(hydra: DictConfig, config: str, arguments: Sequence[str], source: str) -> None:
    """Inside `layout.configuration` of the packaged files: raises UserError unless everything of Hydra's is as they
    and the command line alone make it, and nothing comes from `source`."""
    own = [argument for argument in arguments if argument.lstrip("+~").startswith(("hydra.", "hydra/"))]
    try:
        expected = compose(config, own, return_hydra_config=True).hydra
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"{' '.join(own)}: only Hydra and its plugins may say what this is, not {source}") from error
    found: Any = OmegaConf.to_container(hydra, resolve=False)
    packaged: Any = OmegaConf.to_container(expected, resolve=False)
    changed = [name for name in found if name not in COMPUTED and found[name] != packaged[name]]
    if found["job"]["env_set"] != packaged["job"]["env_set"]:
        changed.append("job.env_set")
    if changed:
        raise UserError(f"{source} sets hydra.{changed[0]}, which it may not: give it on the command line")
