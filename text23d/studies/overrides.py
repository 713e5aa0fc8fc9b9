"""Settings that studies pass on to the runs they make, as overrides of the main job's configuration."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from text23d.errors import UserError

Override = Annotated[
    str, Field(strict=True, pattern=r"^\+{0,2}[A-Za-z_][\w./@]*=", description="settings as method.views=4")
]
RESERVED = ("prompt", "seed", "device")
"""Settings of a run that a study chooses, as it does all of Hydra's."""


def check_overrides(overrides: Iterable[str], name: str) -> None:
    """Raises UserError where settings for the runs, known to a person as `name`, are those that the study chooses."""
    for override in overrides:
        key = override.lstrip("+").partition("=")[0]
        if key in RESERVED or re.split("[./]", key)[0] == "hydra":
            raise UserError(f"{name} has {override}: the study itself chooses {key} of each run; leave it out")
