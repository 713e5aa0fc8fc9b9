"""The packaged configuration, composed without Hydra's command line."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from text23d.errors import UserError
from text23d.paths import conf_dir, slug

SHORT = {"resume": "resume.folder", "best_of": "best_of.probes"}
"""Settings that may be given by a shorter name than their own."""
_HYDRA = threading.Lock()
"""Hydra composes through a global of its own, which is put back afterwards."""


def register_resolvers() -> None:
    """What the packaged configuration computes: `${slug:text}`, see `paths.slug`; `${covering:extent,side,times}` and
    `${window_count:${views},times}`, numbers of windows; `${sound_frames:seconds,wrap}`, the frames of a sound;
    `${staged:this,that}`, this in a run of stages and that in one without."""
    OmegaConf.register_new_resolver("slug", slug, replace=True)
    OmegaConf.register_new_resolver("covering", covering, replace=True)
    OmegaConf.register_new_resolver("window_count", window_count, replace=True)
    OmegaConf.register_new_resolver("sound_frames", sound_frames, replace=True)
    OmegaConf.register_new_resolver("staged", staged, replace=True)


def covering(extent: float, side: float, times: float) -> int:
    """How many windows of `side` see each place of an axis of `extent` so many times. What is no number is told later,
    where it is checked."""
    numbers = all(isinstance(each, int | float) for each in (extent, side, times))
    return max(1, math.ceil(times * extent / side)) if numbers and side > 0 and math.isfinite(extent) else 1


def window_count(views: Mapping[str, Any], times: float) -> int:
    """How many windows see each place of a canvas so many times; where `views` has a stride, how many lie on that grid,
    as `representation.windowing.starts` has them. One where it is told later that the numbers are none."""
    whole, window, stride = (list(views.get(name) or []) for name in ("whole", "window", "stride"))
    wrap = list(views.get("wrap") or [False] * len(whole))
    numbers = all(isinstance(each, int) and each > 0 for each in (*whole, *window, *stride))
    if not numbers or not len(whole) == len(window) == len(wrap):
        return 1
    if len(stride) == len(whole):
        axes = zip(whole, window, stride, wrap, strict=True)
        return math.prod(
            -(-(extent if ring else extent - side) // step) + (not ring) for extent, side, step, ring in axes
        )
    count = times
    for extent, side in zip(reversed(whole), reversed(window), strict=True):
        count = covering(extent, side, count)
    return int(count)


def sound_frames(seconds: float, wrap: bool) -> int:
    """The frames of a sound; one where it is told later that its length is none."""
    from text23d.audio import frames

    numbers = isinstance(seconds, int | float) and math.isfinite(seconds)
    return max(1, min(frames(seconds, wrap is True), 2**24)) if numbers else 1


def staged(this: Any, that: Any, *, _root_: DictConfig) -> Any:
    """`this` where the configuration has a stage, and `that` with stage=none."""
    return this if OmegaConf.select(_root_, "stage") else that


@contextmanager
def composing() -> Iterator[None]:
    """Inside, Hydra composes the packaged configuration, also where a verb runs under Hydra already."""
    with _HYDRA:
        state = GlobalHydra.instance()
        running = state.hydra
        state.clear()
        try:
            yield
        finally:
            state.clear()
            if running is not None:
                state.initialize(running)


def compose(config: str, overrides: Sequence[str] = (), **values: Any) -> dict[str, Any]:
    """The configuration named `config` as plain data, with overrides as on the command line ("method=sds").

    values: of settings by their name, taken as they are, whatever they contain. Raises UserError for an override that
    does not serve, and for a setting that does not exist.
    """
    values = {SHORT.get(name, name): value for name, value in values.items()}
    overrides = [in_full(each) for each in overrides]
    groups = [name for name, value in values.items() if isinstance(value, str) and _is_group(name)]
    choices = [f"{name.replace('.', '/')}={values[name]}" for name in groups]
    settings = {name: value for name, value in values.items() if name not in groups}
    for override in [*overrides, *choices]:
        _require_choice(override)
    register_resolvers()
    try:
        with composing(), initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = hydra_compose(config, [*overrides, *choices])
            for name, value in settings.items():
                if not isinstance(value, str):  # others may refer to it, as views.seed does to seed
                    _require(cfg, name)
                    OmegaConf.update(cfg, name, value)
            resolved: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"cannot compose {', '.join([*overrides, *choices])}: {_first_line(error)}") from error
    for name, value in settings.items():
        _set(resolved, name, value)
    return resolved


def hydras_folder() -> str:
    """Where Hydra has the running job write to."""
    # As it stands: a folder's name may hold what OmegaConf takes for a reference to another setting.
    runtime: Any = OmegaConf.to_container(HydraConfig.get().runtime, resolve=False)
    return str(runtime["output_dir"])


def without_hydra(cfg: DictConfig) -> DictConfig:
    """A configuration without Hydra's part, which is about how it is run."""
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The same as plain data, resolved."""
    return OmegaConf.to_container(without_hydra(cfg), resolve=True)  # type: ignore[return-value]


def in_full(override: str) -> str:
    """An override by the setting's own name."""
    name, equals, value = override.partition("=")
    return f"{SHORT.get(name, name)}{equals}{value}" if equals else override


def _require_choice(override: str) -> None:
    """Raises UserError for an option that its group has not, and where nothing is set."""
    name, _, option = override.lstrip("+").partition("=")
    if not name:
        raise UserError(f"no setting named {override!r}: expected key=value")
    options = sorted(path.stem for path in (conf_dir() / name).glob("*.yaml"))
    if options and option not in options:
        raise UserError(f"no {name} named {option!r}: known are {', '.join(options)}")


def _is_group(name: str) -> bool:
    return (conf_dir() / name.replace(".", "/")).is_dir()


def _set(cfg: dict[str, Any], name: str, value: Any) -> None:
    _require(cfg, name)
    *sections, leaf = name.split(".")
    inside: Any = cfg
    for section in sections:
        inside = inside[section]
    inside[leaf] = value


def _require(cfg: Any, name: str) -> None:
    inside = cfg
    for section in name.split("."):
        if not isinstance(inside, Mapping) or section not in inside:
            raise UserError(f"no setting named {name!r}: see `python -m text23d.run --cfg job` for all that can be set")
        inside = inside._get_node(section) if isinstance(inside, DictConfig) else inside[section]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
