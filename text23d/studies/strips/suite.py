"""What is compared: `conf/strips.yaml`, and of each medium `conf/medium/*.yaml`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from text23d.errors import UserError
from text23d.paths import slug
from text23d.settings import Count, Positive, Seed, checked
from text23d.studies.overrides import Override, check_overrides
from text23d.studies.records import Name

ALL = ("outputs=minimal", "stages=1")
"""What is not looked at is not made."""


@dataclass(frozen=True)
class MediumSuite:
    """`conf/medium/*.yaml`.

    settings     of all runs of the medium
    length       the setting that says how long a result is, and its usual value
    prompts      of results of one prompt; pairs: of those whose halves have one each
    evaluations  of the network on one window that a run may make
    variants     the settings of each way of making them
    """

    name: Literal["panorama", "video", "audio"]
    settings: list[Override]
    length: tuple[str, Positive]
    prompts: Annotated[list[str], Field(min_length=1, description="prompts")]
    pairs: list[tuple[str, str]]
    evaluations: Positive
    variants: Annotated[dict[str, Any], Field(min_length=1, description="variants, as {sds: [method=sds]}")]


@dataclass(frozen=True)
class StripStudy:
    """`conf/strips.yaml`.

    calibration  iterations that measure what one costs
    windows      of the world and of the prior's samples, for each prompt, that results are compared with
    growth       lengths at which time and memory are measured, in units of the usual one
    workers      runs at a time

    Raises UserError where one cannot be used.
    """

    folder: Name
    medium: MediumSuite
    seeds: Annotated[list[Seed], Field(min_length=1, description="whole numbers, as in seeds=[0,1]")]
    calibration: Count
    windows: Count
    growth: list[Count]
    workers: Count
    settings: list[Override] = field(default_factory=list)
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in self.medium.variants:
            if slug(name) != name:
                raise UserError(f"medium.variants.{name}: expected a name in small letters, digits and dashes")
        self.overrides()

    def overrides(self) -> dict[str, list[str]]:
        """All settings of each variant's runs but their prompts and number of iterations."""
        shared = [*ALL, *self.medium.settings, *self.settings]
        check_overrides(shared, "settings")
        found = {}
        for name, own in self.medium.variants.items():
            said = checked(own, list[Override], f"medium.variants.{name}")
            check_overrides(said, f"medium.variants.{name}")
            found[name] = [*shared, *said]
        return found

    def lengths(self) -> dict[int, list[str]]:
        """By how many times the usual length, the settings of a short run of the defaults that is so long."""
        name, usual = self.medium.length
        shared, count = [*ALL, *self.medium.settings, *self.settings], f"method.iterations={1 + self.calibration}"
        return {times: [*shared, f"{name}={times * usual:.12g}", count] for times in dict.fromkeys(self.growth)}
