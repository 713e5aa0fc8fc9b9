"""Captions: what may be said about the toy box, the small grammar that says it, and the reading of a person's prompt.

caption  =  thing [ relation thing ]
thing    =  [adjective] [colour] kind [ "with" [article] colour part [ "and" [article] colour part ] ]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from text23d.errors import UserError
from text23d.words import an, split, unknown
from text23d.worlds.objects.adjectives import STRETCH
from text23d.worlds.objects.colours import COLOURS, COLOURS_TOO
from text23d.worlds.objects.kinds import KINDS

ANY = "thing"
"""Stands for the kind in a caption that names none."""
PREFIXES = ("photo of", "picture of", "image of", "rendering of", "drawing of", "toy model of", "3d model of")
ARTICLES = ("a", "an", "the", "one")
RELATIONS = {"on": ("on", "on top of"), "beside": ("beside", "next to", "near", "and")}
STARTS = {way.split()[0]: relation for relation, ways in RELATIONS.items() for way in ways}
WITH = ("with", "having")
SAYING = ("that is", "which is")
MOST_PARTS = 2
SYNONYM_SHARE, PREFIX_SHARE = 0.25, 0.2
IRREGULAR = {"cacti": "cactus", "center": "centre", "scarves": "scarf", "snowmen": "snowman"}


@dataclass(frozen=True)
class Caption:
    """What a prompt asks for, and an example shows.

    kind       one of KINDS; None: any.
    colour     one of COLOURS; None: any.
    adjective  one of STRETCH or None.
    parts      (word, colour) of the parts that have a colour of their own, words of KINDS[kind].parts.
    relation   None, or how it stands to `other`: on or beside.
    """

    kind: str | None
    colour: str | None = None
    adjective: str | None = None
    parts: tuple[tuple[str, str], ...] = ()
    relation: str | None = None
    other: Caption | None = None


def read_caption(fields: Mapping[str, Any]) -> Caption:
    """A caption from its fields, as JSON gives them back. Raises KeyError, TypeError or ValueError for others."""
    other = fields["other"] and read_caption(fields["other"])
    parts = tuple((word, colour) for word, colour in fields["parts"])
    return Caption(**{**fields, "parts": parts, "other": other})


@cache
def synonyms() -> dict[str, str]:
    """Every other word for a kind or a colour -> that kind or colour."""
    return {word: kind for kind, it in KINDS.items() for word in it.also} | COLOURS_TOO


@cache
def part_words() -> tuple[str, ...]:
    """All words for parts, sorted."""
    return tuple(sorted({word for kind in KINDS.values() for word in kind.parts}))


@cache
def words() -> tuple[str, ...]:
    """The whole vocabulary, sorted: kinds, colours, parts, adjectives, their synonyms, and the grammar's own words."""
    phrases = [*PREFIXES, *ARTICLES, *WITH, *SAYING, *(each for ways in RELATIONS.values() for each in ways)]
    grammar = {word for phrase in phrases for word in phrase.split()}
    return tuple(sorted({*KINDS, *COLOURS, *synonyms(), *part_words(), *STRETCH, *grammar, ANY}))


def caption_text(caption: Caption, rng: np.random.Generator | None = None) -> str:
    """The plain phrase ("a red car with yellow wheels"), or with `rng` one of the grammar's many others."""
    text = _thing(caption, rng)
    if caption.relation is not None and caption.other is not None:
        # "a snowman with a red scarf and a hat" would be one thing
        ways = tuple(way for way in RELATIONS[caption.relation] if way != "and" or not caption.parts)
        text = f"{text} {_one_of(ways, rng)} {_thing(caption.other, rng)}"
    if rng is not None and rng.random() < PREFIX_SHARE:
        text = f"{an(str(rng.choice(PREFIXES)))} {text}"
    return text


def _thing(caption: Caption, rng: np.random.Generator | None) -> str:
    kind, colour = _say(caption.kind or ANY, rng), _say(caption.colour or "", rng)
    before = [caption.adjective or "", colour, kind]
    if colour and rng is not None and rng.random() < 0.12:
        before, after = [caption.adjective or "", kind], [_one_of(SAYING, rng), colour]
    else:
        after = []
    said = " ".join(word for word in [*before, *after] if word)
    if rng is None or rng.random() < 0.7:
        said = an(said)
    elif rng.random() < 0.6:
        said = f"{_one_of(('the', 'one'), rng)} {said}"
    parts = " and ".join(_part(word, colour, rng) for word, colour in caption.parts)
    return f"{said} {_one_of(WITH, rng)} {parts}" if parts else said


def _part(word: str, colour: str, rng: np.random.Generator | None) -> str:
    said = f"{_say(colour, rng)} {word}"
    return said if word.endswith("s") or (rng is not None and rng.random() < 0.2) else an(said)


def _say(word: str, rng: np.random.Generator | None) -> str:
    """The word itself or, now and then, a synonym."""
    others = [other for other, meant in synonyms().items() if meant == word] if rng is not None else []
    return str(rng.choice(others)) if rng is not None and others and rng.random() < SYNONYM_SHARE else word


def _one_of(ways: tuple[str, ...], rng: np.random.Generator | None) -> str:
    return ways[0] if rng is None else str(rng.choice(ways))


@cache
def variants() -> dict[str, str]:
    """Words that are not in the vocabulary -> the word that is: plurals and singulars, another spelling, and other
    words for parts, which weights that are shipped have never heard."""
    known = words()
    kinds = [*KINDS, *(word for kind in KINDS.values() for word in kind.also), ANY]
    parts = part_synonyms() | {word: word for word in part_words()}
    forms = {_plural(noun): noun for noun in kinds} | part_synonyms() | IRREGULAR
    forms |= {_other_number(word): meant for word, meant in parts.items()}
    return {form: noun for form, noun in forms.items() if form not in known and noun in known}


@cache
def part_synonyms() -> dict[str, str]:
    """Every other word for a part -> that part, of the first kind that calls one so."""
    return dict(reversed([pair for kind in KINDS.values() for pair in kind.part_also.items()]))


@cache
def own_synonyms(kind: str) -> dict[str, str]:
    """Every other word for a part of this kind, singular and plural -> that part. It may be another kind's part: what
    are blades to a windmill is a helicopter's rotor."""
    also = {} if kind == ANY else KINDS[kind].part_also
    return {_other_number(word): part for word, part in also.items()} | dict(also)


def _other_number(word: str) -> str:
    return word[:-1] if word.endswith("s") else _plural(word)


def _plural(noun: str) -> str:
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "sh", "ch", "x")) else f"{noun}s"


def tokenize(text: str) -> list[str]:
    """The words of a text as the vocabulary has them: plural or singular, and its own word for a part, which after
    "with" depends on the kind before it."""
    forms, meaning = variants(), synonyms()
    tokens, kind, own = list[str](), ANY, dict[str, str]()
    for word in split(text):
        token = own.get(word, forms.get(word, word))
        meant = meaning.get(token, token)
        if token in WITH:
            own = own_synonyms(kind)
        elif _is_kind(meant) and not (own and meant in _parts_of(kind)):
            kind, own = meant, {}
        elif token in STARTS and token != "and":
            kind, own = ANY, {}
        tokens.append(token)
    return tokens


def known_tokens(text: str, what: str) -> list[str]:
    """`tokenize`, for text that a person gave as `what`. Raises UserError where it is empty or has unknown words."""
    tokens, vocabulary = tokenize(text), set(words())
    if not tokens:
        raise UserError(f'{what} is empty: say what to make, for example "a red car"; {_help()}')
    for token in tokens:
        if token not in vocabulary:
            raise UserError(f"{_unknown(token)}; {_help()}")
    return tokens


def parse(prompt: str) -> Caption:
    """What a prompt asks for. Articles, punctuation, capitals, plurals and prefixes do not matter.

    Raises UserError, in one line, for an empty prompt, a word outside `words()`, a thing without a kind, or a phrase
    outside the grammar: several kinds or colours for one thing, a part that the kind has not, more than two things,
    one thing on another that carries none.
    """
    meaning = synonyms()
    tokens = [meaning.get(token, token) for token in known_tokens(prompt, "prompt")]
    things, relations = _split(tokens)
    if not all(things):
        raise UserError(
            'the prompt names nothing on one side of "on", "beside" or "and": say what is there, '
            'for example "a blue mug on a brown table"'
        )
    if len(things) > 2:
        raise UserError(
            f"the prompt names {len(things)} things: one or two are understood; ask for two, "
            'for example "a blue mug on a brown table"'
        )
    first, *rest = [_read_thing(thing) for thing in things]
    if not rest:
        return first
    if relations[0] == "on" and (rest[0].kind is None or KINDS[rest[0].kind].support is None):
        carriers = ", ".join(name for name, kind in KINDS.items() if kind.support)
        raise UserError(f"nothing can stand on {an(rest[0].kind or ANY)}: one of {carriers} can carry a thing")
    return replace(first, relation=relations[0], other=rest[0])


def _split(tokens: list[str]) -> tuple[list[list[str]], list[str]]:
    """The things' own words, and the relations between them. "and" parts two things unless the first is not named yet
    ("a tall and red car") or a part of it follows."""
    things: list[list[str]] = [[]]
    relations: list[str] = []
    kind = None
    for place, token in enumerate(tokens):
        if token == "and" and (kind is None or _part_follows(kind, things[-1], tokens[place + 1 :])):
            things[-1].append(token)
        elif token in STARTS:
            relations.append(STARTS[token])
            things.append([])
            kind = None
        elif not (token in ("top", "of", "to") and not things[-1]):  # the rest of "on top of" and "next to"
            things[-1].append(token)
            kind = kind or (token if _is_kind(token) else None)
    return things, relations


def _is_kind(token: str) -> bool:
    return token in KINDS or token == ANY


def _parts_of(kind: str) -> tuple[str, ...]:
    return part_words() if kind == ANY else tuple(KINDS[kind].parts)


def _part_follows(kind: str, thing: list[str], ahead: list[str]) -> bool:
    """Whether what comes after "and" is a part of this thing."""
    noun = next((token for token in ahead if _is_kind(token) or token in part_words()), None)
    return any(word in thing for word in WITH) and noun in _parts_of(kind)


def _read_thing(tokens: list[str]) -> Caption:
    place = next((i for i, token in enumerate(tokens) if token in WITH), len(tokens))
    head, tail = tokens[:place], tokens[place:]
    kind = _single("objects", [t for t in head if _is_kind(t)])
    if kind is None:
        raise UserError(f"the prompt names no object in {_quoted(tokens)}: {_help()}")
    colour = _single("colours", [t for t in head if t in COLOURS])
    adjective = _single("adjectives", [t for t in head if t in STRETCH])
    have = _parts_of(kind)
    stray = next((t for t in head if t in part_words() and t not in KINDS), None)
    if stray in have:
        raise UserError(f'{stray!r} is a part: say which colour it has, for example "{an(kind)} with red {stray}"')
    if stray is not None:
        raise UserError(f"{an(kind)} has no {stray} whose colour may be told: its parts are {', '.join(have)}")
    return Caption(None if kind == ANY else kind, colour, adjective, _read_parts(kind, tail) if tail else ())


def _read_parts(kind: str, tokens: list[str]) -> tuple[tuple[str, str], ...]:
    """What a thing has: one part and its colour after each "with" or "and"."""
    have, found = _parts_of(kind), dict[str, str]()
    marked = " ".join("|" if token in (*WITH, "and") else token for token in tokens)
    pieces = [piece.split() for piece in marked.split("|") if piece.strip()]
    for piece in pieces or [[]]:
        said = {t for t in piece if _is_kind(t) or t in part_words() or t in STRETCH}
        colours = {t for t in piece if t in COLOURS}
        if len(said) != 1 or not said <= set(have) or len(colours) != 1:
            raise UserError(
                f'what follows "with" should be one part of {an(kind)} and its colour, such as "red {have[0]}", '
                f"not {_quoted(piece)}: its parts are {', '.join(have)}"
            )
        word, colour = said.pop(), colours.pop()
        if found.setdefault(word, colour) != colour:
            raise UserError(f"the prompt gives the {word} two colours, {found[word]} and {colour}: ask for one")
    if len(found) > MOST_PARTS:
        raise UserError(f"the prompt gives {len(found)} parts of {an(kind)} colours: ask for at most {MOST_PARTS}")
    if not kinds_with(found):
        raise UserError(f"nothing has both {' and '.join(found)}: say what it is, for example {an(next(iter(KINDS)))}")
    return tuple(found.items())


def kinds_with(parts: Iterable[str]) -> list[str]:
    """The kinds that have all these parts."""
    wanted = set(parts)
    return [name for name, kind in KINDS.items() if wanted <= set(kind.parts)]


def _single(what: str, found: list[str]) -> str | None:
    different = list(dict.fromkeys(found))
    if len(different) > 1:
        raise UserError(
            f"the prompt names several {what} ({' and '.join(different)}) for one thing: ask for one, "
            'for example "a red car", "a red car with yellow wheels" or "a red car beside a green tree"'
        )
    return different[0] if different else None


def _quoted(tokens: list[str]) -> str:
    """What was said there, cut to a length that a message can hold."""
    text = " ".join(tokens)
    return f'"{text}"' if len(text) <= 60 else f'"{text[:60]}..."'


def _help() -> str:
    return f"describe it with known words: {', '.join(KINDS)}, in a colour; python -m text23d.vocabulary lists all"


def _unknown(token: str) -> str:
    """What is wrong with an unknown word, on one line, with the nearest known words."""
    return f"{unknown(token, words(), 'the built-in prior')}; prior=sd15 reads any prompt"
