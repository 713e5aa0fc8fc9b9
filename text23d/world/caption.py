"""Captions: the closed vocabulary, the small grammar that paraphrases, and the reading of a person's prompt."""

from __future__ import annotations

import difflib
import re
import unicodedata
from dataclasses import dataclass

import numpy as np

from text23d.contracts import UserError
from text23d.world.colours import COLOURS
from text23d.world.kinds import KINDS

PLAIN = "{a} {colour} {kind}"
PARAPHRASES = (
    PLAIN,
    "{colour} {kind}",
    "the {colour} {kind}",
    "one {colour} {kind}",
    "{a} {kind} that is {colour}",
    "{a} {kind} which is {colour}",
    "a photo of {a} {colour} {kind}",
    "a picture of {a} {colour} {kind}",
    "an image of {a} {colour} {kind}",
    "a rendering of {a} {colour} {kind}",
    "a toy model of {a} {colour} {kind}",
)
COLOURLESS = tuple(p for p in PARAPHRASES if "is {colour}" not in p)
SLOTS = re.compile(r"\{\w+\}")
# A run of letters and digits, or one other character.
TOKEN = re.compile(r"[^\W_]+|\S")


@dataclass(frozen=True)
class Caption:
    """What the built-in prior is told: `kind` is one of KINDS, `colour` one of COLOURS or None (any)."""

    kind: str
    colour: str | None = None


def words() -> list[str]:
    """The whole vocabulary, sorted: kinds, colours, and the grammar's own words."""
    grammar = {word for phrase in PARAPHRASES for word in SLOTS.sub(" ", phrase).split()}
    return sorted({*KINDS, *COLOURS, *grammar, "a", "an"})


def caption_text(caption: Caption, rng: np.random.Generator | None = None) -> str:
    """The plain phrase ("a red car", "an airplane"), or with `rng` one of the grammar's paraphrases."""
    return _phrase(caption, PLAIN if rng is None else str(rng.choice(phrases_for(caption))))


def phrases_for(caption: Caption) -> tuple[str, ...]:
    """The grammar's templates that can say this caption."""
    return COLOURLESS if caption.colour is None else PARAPHRASES


def _phrase(caption: Caption, template: str) -> str:
    """Fill a template; its `{a}` agrees with the word that follows."""
    filled = template.format(a="{a}", colour=caption.colour or "", kind=caption.kind)
    spoken = " ".join(filled.split())
    return re.sub(r"\{a\} (\w)", lambda at: f"{'an' if at[1] in 'aeiou' else 'a'} {at[1]}", spoken)


def tokenize(text: str) -> list[str]:
    """Lower-case words, in order. Plain punctuation separates words and is dropped; any other character that is no
    letter or digit (an emoji, say) is a token of its own, so that nothing a person wrote is silently ignored."""
    folded = unicodedata.normalize("NFKC", text).lower()
    return [token for token in TOKEN.findall(folded) if not _is_punctuation(token)]


def _is_punctuation(token: str) -> bool:
    return token == "`" or all(unicodedata.category(character)[0] == "P" for character in token)


def parse(prompt: str) -> Caption:
    """What a prompt asks for. Articles, punctuation, capitals and the order of the words do not matter.

    Raises UserError, in one line, for an empty prompt, a word outside `words()`, no kind, or several kinds or colours.
    """
    known = f"describe it with known words: {', '.join(KINDS)}; {', '.join(COLOURS)}"
    tokens = tokenize(prompt)
    if not tokens:
        raise UserError(f'prompt is empty: say what to make, for example "a red car"; {known}')
    kinds = list(dict.fromkeys(token for token in tokens if token in KINDS))
    colours = list(dict.fromkeys(token for token in tokens if token in COLOURS))
    for what, found in (("objects", kinds), ("colours", colours)):
        if len(found) > 1:
            example = caption_text(Caption(next(iter(kinds), "car"), next(iter(colours), None)))
            raise UserError(
                f"the prompt names several {what} ({' and '.join(found)}): one object of one colour is understood; "
                f'ask for one, for example "{example}"'
            )
    vocabulary = words()
    for token in tokens:
        if token not in vocabulary:
            raise UserError(f"{_unknown(token)}; {known}")
    if not kinds:
        raise UserError(f"the prompt names no object: {known}")
    return Caption(kinds[0], next(iter(colours), None))


def _unknown(token: str) -> str:
    """What is wrong with an unknown word, on one line, with the nearest known words."""
    near = difflib.get_close_matches(token, [*KINDS, *COLOURS], n=2, cutoff=0.6)
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    shown = token if len(token) <= 30 else token[:30] + "..."
    return f"the built-in prior does not know the word {shown!r}{hint}; prior=stable_diffusion reads any prompt"
