"""Captions of clips, the small grammar that says them, and the reading of a person's prompt.

caption = [a] [colour] kind [motion]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from text23d.errors import UserError
from text23d.words import an, split, unknown
from text23d.worlds.clips.motions import MOTIONS
from text23d.worlds.objects.colours import COLOURS_TOO
from text23d.worlds.objects.kinds import KINDS as TOY_BOX

KINDS = ("car", "chair", "duck", "fish", "house", "mug", "mushroom", "tree")
COLOURS = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink")
ROUND = ("mushroom", "tree")
"""Kinds of which nobody could say whether they turn."""
PREFIXES = ("video of", "clip of", "film of")
FILLERS = ("a", "an", "the", "one", "that", "which", "is", "to", *(prefix.split()[0] for prefix in PREFIXES), "of")
SYNONYM_SHARE, PREFIX_SHARE, SILENT_SHARE = 0.25, 0.15, 0.08


@dataclass(frozen=True)
class Caption:
    """What a prompt asks for, and a clip shows: one of KINDS, of COLOURS and of MOTIONS; None: any."""

    kind: str
    colour: str | None = None
    motion: str | None = None


def numbered(index: int) -> Caption:
    """What example `index` shows: kinds, colours and motions in turn, so that any set of them is balanced."""
    motions = list(MOTIONS)
    index, kind = divmod(index, len(KINDS))
    index, colour = divmod(index, len(COLOURS))
    return Caption(KINDS[kind], COLOURS[colour], motions[index % len(motions)])


@cache
def synonyms() -> dict[str, str]:
    """Every other word for a kind or a colour -> that kind or colour."""
    kinds = {word: kind for kind in KINDS for word in TOY_BOX[kind].also}
    return kinds | {word: colour for word, colour in COLOURS_TOO.items() if colour in COLOURS}


@cache
def phrases() -> dict[str, str]:
    """What may be said of a motion, without fillers -> the motion."""
    return {_plain(split(said)): motion for motion, it in MOTIONS.items() for said in it.says}


@cache
def words() -> tuple[str, ...]:
    """The whole vocabulary, sorted."""
    said = {word for motion in MOTIONS.values() for phrase in motion.says for word in phrase.split()}
    return tuple(sorted({*KINDS, *COLOURS, *synonyms(), *FILLERS, *said}))


def caption_text(caption: Caption, rng: np.random.Generator | None = None) -> str:
    """The plain phrase ("a red car turning left"), or with `rng` one of many others, now and then telling less."""
    if rng is not None and rng.random() < SILENT_SHARE:
        caption = replace(caption, colour=None)
    if rng is not None and rng.random() < SILENT_SHARE:
        caption = replace(caption, motion=None)
    named = " ".join(_say(word, rng) for word in (caption.colour, caption.kind) if word)
    text = an(named)
    if caption.motion:
        ways = MOTIONS[caption.motion].says
        said = str(rng.choice(ways)) if rng is not None and rng.random() < 0.5 else ways[0]
        joint = f" {rng.choice(('that', 'which'))} is " if rng is not None and rng.random() < 0.15 else " "
        text += joint + said
    return f"a {rng.choice(PREFIXES)} {text}" if rng is not None and rng.random() < PREFIX_SHARE else text


def _say(word: str, rng: np.random.Generator | None) -> str:
    others = [other for other, meant in synonyms().items() if meant == word]
    return str(rng.choice(others)) if rng is not None and others and rng.random() < SYNONYM_SHARE else word


def known_tokens(text: str, what: str) -> list[str]:
    """The words of a text that a person gave as `what`. Raises UserError where it is empty or has unknown words."""
    tokens = split(text)
    if not tokens:
        raise UserError(f'{what} is empty: say what to show, for example "a red car turning left"; {_help()}')
    for token in tokens:
        if token not in words():
            raise UserError(f"{unknown(token, words(), 'the prior of clips')}; {_help()}")
    return tokens


def parse(prompt: str) -> Caption:
    """What a prompt asks for. Articles, punctuation, capitals and prefixes do not matter.

    Raises UserError, in one line, for an empty prompt, a word outside `words()`, no kind, several kinds or colours, and
    a motion that is none of MOTIONS.
    """
    meaning = synonyms()
    tokens = [meaning.get(token, token) for token in known_tokens(prompt, "prompt")]
    kind, colour = (_single(tokens, names) for names in (KINDS, COLOURS))
    if kind is None:
        raise UserError(f"the prompt names no thing: {_help()}")
    motion = _plain([token for token in tokens if token not in (kind, colour)])
    if motion and motion not in phrases():
        raise UserError(f'the prompt has it "{motion[:60]}", which is no motion: choose one of {", ".join(MOTIONS)}')
    return Caption(kind, colour, phrases()[motion] if motion else None)


def _plain(tokens: list[str]) -> str:
    return " ".join(token for token in tokens if token not in FILLERS)


def _single(tokens: list[str], names: tuple[str, ...]) -> str | None:
    found = list(dict.fromkeys(token for token in tokens if token in names))
    if len(found) > 1:
        raise UserError(f'the prompt names {" and ".join(found)}: ask for one, for example "a red car turning left"')
    return found[0] if found else None


def _help() -> str:
    return f"name one of {', '.join(KINDS)}, in a colour, and one of {', '.join(MOTIONS)}"
