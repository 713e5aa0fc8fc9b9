"""Captions: what may be said of landscapes, the small grammar that says it, and the reading of a person's prompt.

caption  =  [weather] [scene | "landscape"] ["in the" fall] ["at" time]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import numpy as np

from text23d.errors import UserError
from text23d.words import an, split, unknown

ANY = "landscape"
"""Stands for the scene in a caption that names none."""
SCENES = {
    "mountains": ("mountain", "alps", "peaks", "mountainside"),
    "beach": ("coast", "shore", "seaside", "seashore"),
    "sea": ("ocean", "seascape"),
    "forest": ("woods", "woodland", "wood"),
    "desert": ("dunes", "sands"),
    "town": ("village", "city", "houses"),
    "meadow": ("hills", "fields", "countryside", "grassland"),
}
"""Each scene with other words for it; so the times and weathers below."""
TIMES = {
    "dawn": ("sunrise", "daybreak", "morning"),
    "day": ("noon", "midday", "daytime", "daylight"),
    "sunset": ("dusk", "evening", "twilight", "sundown"),
    "night": ("midnight", "moonlight", "nighttime", "starry"),
}
WEATHERS = {
    "clear": ("sunny", "fair", "cloudless"),
    "cloudy": ("overcast", "clouded", "clouds"),
    "foggy": ("misty", "hazy", "fog", "mist"),
    "rainy": ("stormy", "wet", "rain", "storm"),
    "snowy": ("wintry", "snow", "winter"),
}
NOUNS = {"fog", "mist", "rain", "storm", "snow", "winter", "clouds", "moonlight", "daylight"}
"""Words for times and weathers that are said after the scene: "a forest in the rain"."""
PLURAL = {"mountains", "alps", "peaks", "woods", "dunes", "sands", "houses", "hills", "fields"}
SNOWLESS = ("beach", "sea", "desert")
PREFIXES = ("photo of", "picture of", "image of", "painting of", "panorama of", "view of")
FILLERS = ("a", "an", "the", "at", "in", "by", "on", "of", "with", "and", "under", "during", "sky", "weather", "capped")
FORMS = {"beaches": "beach", "seas": "sea", "oceans": "ocean", "coasts": "coast", "shores": "shore",
         "forests": "forest", "woodlands": "woodland", "deserts": "desert", "dune": "dunes", "towns": "town",
         "villages": "village",
         "cities": "city", "house": "houses", "meadows": "meadow", "hill": "hills", "field": "fields", "peak": "peaks",
         "landscapes": "landscape", "nights": "night", "days": "day", "sunsets": "sunset", "covered": "capped",
         "skies": "sky", "raining": "rain", "snowing": "snow", "cloud": "clouds"}  # fmt: skip
"""Words outside the vocabulary -> the word of it that is meant."""
SYNONYM_SHARE, PREFIX_SHARE = 0.3, 0.15
FORGOTTEN = {"scene": 0.05, "time": 0.1, "weather": 0.12}
"""How often a caption does not tell it, and a clear sky or a day are left to be understood."""
UNDERSTOOD = {("time", "day"): 0.35, ("weather", "clear"): 0.6}


@dataclass(frozen=True)
class Caption:
    """What a prompt asks for, and an example shows: one of SCENES, TIMES and WEATHERS each; None: any."""

    scene: str | None = None
    time: str | None = None
    weather: str | None = None


@cache
def meanings() -> dict[str, tuple[str, str]]:
    """Every word that says something -> which field of a caption, and its value there."""
    groups = {"scene": SCENES, "time": TIMES, "weather": WEATHERS}
    return {
        word: (name, value)
        for name, values in groups.items()
        for value, others in values.items()
        for word in (value, *others)
    }


@cache
def words() -> tuple[str, ...]:
    """The whole vocabulary, sorted."""
    prefixes = {word for prefix in PREFIXES for word in prefix.split()}
    return tuple(sorted({*meanings(), *FILLERS, *prefixes, ANY}))


def read_caption(said: Mapping[str, Any]) -> Caption:
    """A caption from its fields, as JSON gives them back. Raises KeyError, TypeError or ValueError for others."""
    caption = Caption(**said)
    for each in fields(Caption):
        value = getattr(caption, each.name)
        if value is not None and meanings()[value] != (each.name, value):
            raise ValueError(f"{value} is no {each.name}")
    return caption


def caption_text(caption: Caption, rng: np.random.Generator | None = None) -> str:
    """The plain phrase ("snowy mountains at sunset"), or with `rng` one of the grammar's many others."""
    scene = _say(caption.scene, SCENES, rng) if caption.scene else ANY
    weather, time = (_say(each, group, rng) for each, group in ((caption.weather, WEATHERS), (caption.time, TIMES)))
    before, after = ("", f"in the {weather}") if weather in NOUNS else (weather, "")
    said = f"{before} {scene}".strip()
    said = said if scene in PLURAL else an(said)
    if time == "starry":
        when = "under a starry sky"
    elif time in ("evening", "morning", "daytime", "nighttime", *NOUNS):
        when = f"in the {time}"
    else:
        when = time and f"{'by' if time == 'day' else 'at'} {time}"
    text = " ".join(part for part in (said, after, when) if part)
    if rng is not None and rng.random() < PREFIX_SHARE:
        text = f"{an(str(rng.choice(PREFIXES)))} {text}"
    return text


def _say(word: str | None, group: Mapping[str, tuple[str, ...]], rng: np.random.Generator | None) -> str:
    """The word itself or, now and then, a synonym."""
    if word is None:
        return ""
    return str(rng.choice(group[word])) if rng is not None and rng.random() < SYNONYM_SHARE else word


def forgetful(caption: Caption, rng: np.random.Generator) -> Caption:
    """The caption, now and then telling less of it."""
    for name, share in FORGOTTEN.items():
        if rng.random() < UNDERSTOOD.get((name, getattr(caption, name)), share):
            caption = replace(caption, **{name: None})
    return caption


def known_tokens(text: str, what: str) -> list[str]:
    """The words of a text that a person gave as `what`, as the vocabulary has them. Raises UserError where it is empty
    or has unknown words."""
    tokens, vocabulary = [FORMS.get(word, word) for word in split(text)], set(words())
    if not tokens:
        raise UserError(f'{what} is empty: say what to make, for example "a beach at sunset"; {_help()}')
    for token in tokens:
        if token not in vocabulary:
            raise UserError(f"{unknown(token, words(), 'the prior of landscapes')}; {_help()}")
    return tokens


def parse(prompt: str) -> Caption:
    """What a prompt asks for. Articles, punctuation, capitals and prefixes do not matter.

    Raises UserError, in one line, for an empty prompt, a word outside `words()`, two scenes, times or weathers, nothing
    of either, and snow where none falls.
    """
    found: dict[str, str] = {}
    tokens = known_tokens(prompt, "prompt")
    for token in tokens:
        name, value = meanings().get(token, ("", ""))
        if name and found.setdefault(name, value) != value:
            raise UserError(
                f"the prompt names two {name}s ({found[name]} and {value}): ask for one, or give each its own region, "
                'as in regions=\'{left: "snowy mountains", right: "a beach"}\''
            )
    if not found and ANY not in tokens:
        raise UserError(f'the prompt names no landscape: say for example "a foggy forest"; {_help()}')
    if found.get("weather") == "snowy" and found.get("scene") in SNOWLESS:
        raise UserError(f"no snow falls on {an(found['scene'])} here: ask for other weather, or for snowy mountains")
    return Caption(**found)


def draw(rng: np.random.Generator) -> Caption:
    """Any scene and time, in weather that is mostly fair."""
    scene, time = str(rng.choice(list(SCENES))), str(rng.choice(list(TIMES)))
    shares = np.array([0.42, 0.2, 0.13, 0.1, 0.15 if scene not in SNOWLESS else 0.0])
    if scene == "mountains":
        shares[4] += 0.2
    return Caption(scene, time, str(rng.choice(list(WEATHERS), p=shares / shares.sum())))


def _help() -> str:
    groups = {"scene": SCENES, "time": TIMES, "weather": WEATHERS}
    told = "; ".join(f"{name}: {', '.join(values)}" for name, values in groups.items())
    return f"known are {told}; python -m text23d.vocabulary --world landscapes lists all"
