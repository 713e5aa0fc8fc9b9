"""Captions of sounds: what may be said of them, the small grammar that says it, and the reading of a person's prompt.

caption  =  [loudness] [tempo] [register] instrument [form] [ "in" name ]
         |  [loudness] [tempo] [register] form [ "in" name ] "on" instrument
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from text23d.errors import UserError
from text23d.words import an, split, unknown
from text23d.worlds.sounds.instruments import DRUM, INSTRUMENTS
from text23d.worlds.sounds.pitch import NAMES, REGISTERS

FORMS = ("note", "chord", "melody", "beat")
TEMPOS = {"slow": 2.0, "moderate": 3.2, "fast": 5.0}
"""Notes, chords or steps of a beat a second."""
HELD = "held"
"""The tempo of what is one sound without end."""
LEVELS = {"quiet": 0.25, "normal": 0.5, "loud": 0.95}
"""The largest sample of a piece."""
CHORDS = ("c", "d", "e", "f", "g", "a")
"""Roots: the triads of the white keys that are major or minor."""
PREFIXES = ("sound of", "recording of")
ARTICLES = ("a", "an", "the")
ON = ("on", "by", "of")
IN = "in"
ALSO = {
    "soft": "quiet",
    "quick": "fast",
    "steady": "moderate",
    "long": "held",
    "deep": "low",
    "tone": "note",
    "tune": "melody",
    "rhythm": "beat",
} | {word: name for name, it in INSTRUMENTS.items() for word in it.also}
"""Every other word -> the one that it means."""
PLURALS = {"melodies": "melody"}
SYNONYM_SHARE, PREFIX_SHARE, REVERSED_SHARE, OVERT_SHARE, NAMELESS_SHARE = 0.25, 0.1, 0.25, 0.1, 0.1
EXAMPLE = 'for example "a slow bell melody"'


@dataclass(frozen=True)
class Caption:
    """What a prompt asks for, and an example lets hear.

    instrument  one of INSTRUMENTS, or DRUM
    form        one of FORMS; a beat, and nothing else, is of the drum
    pitch       one of REGISTERS; None: of the drum
    tempo       one of TEMPOS, or HELD: of notes and chords of instruments that can
    loudness    one of LEVELS
    name        of the note, or of the chord's root; None: any
    """

    instrument: str
    form: str
    pitch: str | None = "middle"
    tempo: str = "moderate"
    loudness: str = "normal"
    name: str | None = None


@cache
def meanings() -> dict[str, tuple[str, str]]:
    """Every word that tells something -> the field of a caption that it is about, and the value."""
    fields: dict[str, Sequence[str]] = {
        "instrument": (*INSTRUMENTS, DRUM),
        "form": FORMS,
        "pitch": tuple(REGISTERS),
        "tempo": (*TEMPOS, HELD),
        "loudness": tuple(LEVELS),
        "name": NAMES,
    }
    own = {value: (field, value) for field, values in fields.items() for value in values}
    return own | {word: own[meant] for word, meant in ALSO.items()}


@cache
def words() -> tuple[str, ...]:
    """The whole vocabulary, sorted."""
    grammar = {word for phrase in (*PREFIXES, *ARTICLES, *ON, IN) for word in phrase.split()}
    return tuple(sorted({*meanings(), *grammar}))


def usual_tempo(instrument: str, form: str) -> str:
    """The tempo of a caption that tells none."""
    return HELD if may_be_held(instrument, form) else "moderate"


def may_be_held(instrument: str, form: str) -> bool:
    """Whether that instrument can hold that form."""
    return form in ("note", "chord") and instrument != DRUM and INSTRUMENTS[instrument].held


def caption_text(caption: Caption, rng: np.random.Generator | None = None) -> str:
    """The plain phrase ("a slow bell melody"), or with `rng` one of the grammar's many, which may tell no name."""
    usual = {"loudness": "normal", "tempo": usual_tempo(caption.instrument, caption.form), "pitch": "middle"}
    told = [
        word
        for field, default in usual.items()
        if (word := getattr(caption, field)) and (word != default or (rng is not None and rng.random() < OVERT_SHARE))
    ]
    name = None if rng is not None and rng.random() < NAMELESS_SHARE else caption.name
    after = f" {IN} {name}" if name else ""
    if rng is None:
        return an(" ".join([*told, caption.instrument, caption.form])) + after
    told = [_say(word, rng) for word in rng.permutation(told)]
    instrument, form = _say(caption.instrument, rng), _say(caption.form, rng)
    if rng.random() < REVERSED_SHARE:
        text = f"{an(' '.join([*told, form]))}{after} {rng.choice(ON)} {an(instrument)}"
    else:
        text = an(" ".join([*told, instrument, form])) + after
    return f"{an(str(rng.choice(PREFIXES)))} {text}" if rng.random() < PREFIX_SHARE else text


def _say(word: str, rng: np.random.Generator) -> str:
    """The word itself or, now and then, a synonym."""
    others = [other for other, meant in ALSO.items() if meant == word]
    return str(rng.choice(others)) if others and rng.random() < SYNONYM_SHARE else str(word)


def known_tokens(text: str, what: str) -> list[str]:
    """The words of a text that a person gave as `what`, in the singular. Raises UserError where it is empty or has
    unknown words."""
    known, tokens = set(words()), []
    for word in split(text):
        single = PLURALS.get(word, word if word in known else word.removesuffix("s"))
        if single not in known:
            raise UserError(f"{unknown(word, words(), 'the prior of sounds')}; {_help()}")
        tokens.append(single)
    if not tokens:
        raise UserError(f"{what} is empty: say what to play, {EXAMPLE}; {_help()}")
    return tokens


def parse(prompt: str) -> Caption:
    """What a prompt asks for. Raises UserError, in one line, for an empty prompt, a word outside `words()`, several
    words for one thing, no instrument, and what no instrument can play."""
    found: dict[str, str] = {}
    tokens = known_tokens(prompt, "prompt")
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token not in meanings() or (token == "a" and before not in (IN, "note", "chord")):
            continue
        field, value = meanings()[token]
        if found.setdefault(field, value) != value:
            raise UserError(f"the prompt says both {found[field]} and {value}: ask for one, {EXAMPLE}")
    instrument = found.pop("instrument", DRUM if found.get("form") == "beat" else None)
    if instrument is None:
        raise UserError(f"the prompt names no instrument: {_help()}")
    return _playable(instrument, found.pop("form", "beat" if instrument == DRUM else "note"), found)


def _playable(instrument: str, form: str, told: Mapping[str, str]) -> Caption:
    if (instrument == DRUM) != (form == "beat"):
        raise UserError(f"{an(instrument)} plays no {form}: a drum plays beats, {', '.join(INSTRUMENTS)} all else")
    if instrument == DRUM:
        for field in ("pitch", "name"):
            if field in told:
                raise UserError(f'a drum has no pitch: leave out "{told[field]}", or ask for {", ".join(INSTRUMENTS)}')
    if told.get("tempo") == HELD and not may_be_held(instrument, form):
        can = " and ".join(name for name, it in INSTRUMENTS.items() if it.held)
        raise UserError(f"{an(instrument)} {form} cannot be held: notes and chords of {can} can")
    if "name" in told and (form == "melody" or (form == "chord" and told["name"] not in CHORDS)):
        has = f"a {form} in {told['name']} is not known"
        raise UserError(f"{has}: notes have a name, and chords one of {', '.join(CHORDS)}")
    usual: dict[str, Any] = {"pitch": None if instrument == DRUM else "middle", "tempo": usual_tempo(instrument, form)}
    return Caption(instrument, form, **{**usual, **told})


def _help() -> str:
    return f"name one of {', '.join((*INSTRUMENTS, DRUM))} and what it plays, {', '.join(FORMS)}, {EXAMPLE}"
