"""The grammar: whatever it says it reads back, and whatever a person writes is understood or explained in one line."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from text23d import vocabulary
from text23d.errors import UserError
from text23d.worlds.objects.adjectives import STRETCH
from text23d.worlds.objects.caption import (
    ANY,
    MOST_PARTS,
    RELATIONS,
    Caption,
    caption_text,
    kinds_with,
    known_tokens,
    parse,
    part_words,
    synonyms,
    tokenize,
    variants,
    words,
)
from text23d.worlds.objects.colours import COLOURS, COLOURS_TOO
from text23d.worlds.objects.kinds import KINDS
from text23d.worlds.objects.scene import draw_caption

CAR, TREE, TABLE = Caption("car", "red"), Caption("tree", "green"), Caption("table", "brown")


def one_of(options: object, rng: np.random.Generator) -> str | None:
    return str(rng.choice(list(options))) if rng.random() < 0.7 else None  # type: ignore[call-overload]


def any_thing(rng: np.random.Generator) -> Caption:
    """Anything that can be said of one thing, what no training says among it: no kind, a part in the thing's colour."""
    kind = one_of(KINDS, rng)
    have = list(KINDS[kind or str(rng.choice(list(KINDS)))].parts)
    count = min(len(have), int(rng.integers(0, MOST_PARTS + 1)))
    parts = [(str(word), str(rng.choice(list(COLOURS)))) for word in rng.choice(have, count, replace=False)]
    return Caption(kind, one_of(COLOURS, rng), one_of(STRETCH, rng), tuple(parts))


def any_caption(rng: np.random.Generator) -> Caption:
    first, other = any_thing(rng), any_thing(rng)
    if rng.random() < 0.5:
        return first
    carries = other.kind is not None and KINDS[other.kind].support is not None
    return replace(first, relation="on" if carries and rng.random() < 0.8 else "beside", other=other)


# What is said is read back


def test_plain_captions() -> None:
    assert caption_text(CAR) == "a red car"
    assert caption_text(Caption("airplane")) == "an airplane"
    assert caption_text(Caption(None, "orange")) == "an orange thing"
    assert caption_text(Caption("boat", "orange", "tall")) == "a tall orange boat"
    parts = (("wheels", "yellow"), ("roof", "orange"))
    assert caption_text(Caption("car", "red", parts=parts)) == "a red car with yellow wheels and an orange roof"
    assert caption_text(Caption("mug", "blue", relation="on", other=TABLE)) == "a blue mug on a brown table"
    assert caption_text(replace(CAR, relation="beside", other=TREE)) == "a red car beside a green tree"


def test_drawn_captions_are_read_back_however_they_are_said() -> None:
    vocabulary, texts = set(words()), set()
    for index in range(3000):
        rng = np.random.default_rng([1, index])
        caption = draw_caption(index, rng, held_out=index % 2 == 0)
        text = caption_text(caption, rng)
        assert parse(text) == caption == parse(caption_text(caption)), text
        assert set(tokenize(text)) <= vocabulary and text == " ".join(tokenize(text)), text
        texts.add(text)
    assert len(texts) > 2500


def test_any_caption_is_read_back_however_it_is_said() -> None:
    for seed in range(3000):
        rng = np.random.default_rng([2, seed])
        caption = any_caption(rng)
        for text in (caption_text(caption), caption_text(caption, rng)):
            assert parse(text) == caption, text


def test_there_are_many_ways_to_say_it() -> None:
    rng = np.random.default_rng(0)
    said = [caption_text(replace(CAR, relation="beside", other=TREE), rng) for _ in range(1500)]
    assert len(set(said)) > 500
    for way in (*RELATIONS["beside"], "crimson", "automobile", "that is", "a photo of", "the ", "one "):
        assert any(way in text for text in said), way
    assert caption_text(CAR, np.random.default_rng(5)) == caption_text(CAR, np.random.default_rng(5))


# The vocabulary


def test_the_vocabulary_is_closed_sorted_and_holds_every_word() -> None:
    assert list(words()) == sorted(set(words()))
    assert {*KINDS, *COLOURS, *COLOURS_TOO, *STRETCH, *part_words(), ANY, "with", "and", "top", "photo"} <= set(words())
    assert all(tokenize(word) == [word] for word in words())
    assert set(synonyms()) <= set(words()) and set(synonyms().values()) <= {*KINDS, *COLOURS}


@pytest.mark.parametrize("kind", KINDS)
def test_synonyms_mean_their_kind(kind: str) -> None:
    for word in KINDS[kind].also:
        assert parse(f"a red {word}") == Caption(kind, "red")


@pytest.mark.parametrize(("word", "colour"), COLOURS_TOO.items())
def test_synonyms_mean_their_colour(word: str, colour: str) -> None:
    assert parse(f"a {word} car with {word} wheels") == Caption("car", colour, parts=(("wheels", colour),))


@pytest.mark.parametrize(
    ("form", "word"),
    [
        ("cars", "car"),
        ("buses", "bus"),
        ("coaches", "coach"),
        ("fishes", "fish"),
        ("lorries", "lorry"),
        ("puppies", "puppy"),
        ("cacti", "cactus"),
        ("cactuses", "cactus"),
        ("snowmen", "snowman"),
        ("hats", "hat"),
        ("wheel", "wheels"),
        ("leg", "legs"),
        ("chimneys", "chimney"),
        ("scarves", "scarf"),
        ("center", "centre"),
        ("things", "thing"),
    ],
)
def test_plurals_and_singulars(form: str, word: str) -> None:
    assert tokenize(form) == [word]


@pytest.mark.parametrize(
    ("word", "part"),
    [("tyres", "wheels"), ("tyre", "wheels"), ("tires", "wheels"), ("propeller", "rotor"), ("propellers", "rotor")],
)
def test_other_words_for_parts_are_read_as_the_words_that_priors_know(word: str, part: str) -> None:
    kind = {"wheels": "car", "rotor": "helicopter"}[part]
    assert word not in words() and tokenize(word) == [part]
    assert parse(f"a red {kind} with a blue {word}") == Caption(kind, "red", parts=((part, "blue"),))


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_its_own_words_for_its_parts(kind: str) -> None:
    """Singular or plural, whatever else they mean elsewhere, and also where the kind has another name."""
    for word, part in KINDS[kind].part_also.items():
        for name in (kind, *KINDS[kind].also):
            for said in (word, f"{word}s" if not word.endswith("s") else word[:-1]):
                tokens = tokenize(f"a {name} with red {said}")
                assert tokens == ["a", name, "with", "red", part] and set(tokens) <= set(words())
                assert parse(f"a {name} with red {said}").parts == ((part, "red"),)


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ("a chopper with red blades", "a chopper with red rotor"),
        ("a windmill with red blades", "a windmill with red blades"),
        ("a windmill with a red rotor", "a windmill with a red blades"),
        (
            "a helicopter with red blades and a windmill with red sails",
            "a helicopter with red rotor and a windmill with red blades",
        ),
        ("a helicopter beside a windmill with red blades", "a helicopter beside a windmill with red blades"),
        (
            "a car with a red top on top of a table with blue feet",
            "a car with a red roof on top of a table with blue legs",
        ),
        ("a red car on the top of a table", "a red car on the top of a table"),
        ("a snowman with a red hat and a blue muffler", "a snowman with a red hat and a blue scarf"),
        (
            "a snowman with a red cap and a bottle with a red lid",
            "a snowman with a red hat and a bottle with a red cap",
        ),
        ("a thing with a red propeller", "a thing with a red rotor"),
    ],
)
def test_which_part_a_word_means_depends_on_the_kind_before_it(prompt: str, tokens: str) -> None:
    assert tokenize(prompt) == tokens.split()
    parse(prompt)


def test_every_noun_has_its_plural_and_no_form_is_a_word() -> None:
    forms = variants()
    assert set(forms).isdisjoint(words()) and set(forms.values()) <= set(words())
    plural = {noun for noun in forms.values() if not noun.endswith("s")}
    assert plural >= {noun for noun in (*KINDS, *part_words()) if not noun.endswith("s")}
    assert "bu" not in forms and "cactu" not in forms, "these are no plurals"
    assert parse("cars with blue wheel") == Caption("car", None, parts=(("wheels", "blue"),))


def test_the_verb_lists_every_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert vocabulary.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = {line.split()[0]: line for line in lines if line}
    for name, kind in KINDS.items():
        assert all(word in row[name] for word in (*kind.also, *kind.parts, *kind.part_also)), name
    assert all(name in row["colours"] for name in (*COLOURS, *COLOURS_TOO))
    assert all(name in row["adjectives"] for name in STRETCH)
    assert all(way in row["relations"] for ways in RELATIONS.values() for way in ways)
    carriers = [name for name, kind in KINDS.items() if kind.support]
    assert row["on:"].strip() == f"on: {', '.join(carriers)} can carry a thing"
    assert lines[-1] == f"all {len(words())} words: " + " ".join(words())


def test_the_verb_has_help_and_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        vocabulary.main(["--help"])
    assert ended.value.code == 0 and "every word that a prompt" in capsys.readouterr().out
    with pytest.raises(UserError, match="unrecognized arguments: cars: text23d vocabulary --help lists"):
        vocabulary.main(["cars"])
    assert not capsys.readouterr().out


# What a person writes


@pytest.mark.parametrize(
    "prompt",
    [
        "A RED car.",
        "  a red, car!\n",
        '"a red car"',
        "\u201ca red car\u201d",
        "red-car",
        "car, red",
        "a (red) car...",
        "`red_car`",
        "\uff32\uff25\uff24 car",
        "a photo of a red toy car",
        "and a red car",
        "a red car, a red car",
        "the car which is red",
    ],
)
def test_punctuation_capitals_and_prefixes_do_not_matter(prompt: str) -> None:
    assert parse(prompt) == CAR


@pytest.mark.parametrize(
    ("prompt", "caption"),
    [
        ("thing", Caption(None)),
        ("a tall and red car", replace(CAR, adjective="tall")),
        ("a red car and a green tree", replace(CAR, relation="beside", other=TREE)),
        ("a red car next to the green tree", replace(CAR, relation="beside", other=TREE)),
        ("a red car on the top of a brown table", replace(CAR, relation="on", other=TABLE)),
        ("a red car that is on a brown table", replace(CAR, relation="on", other=TABLE)),
        ("a red car near a thing", replace(CAR, relation="beside", other=Caption(None))),
        ("a car and a car", Caption("car", relation="beside", other=Caption("car"))),
        ("a red car having a blue roof", replace(CAR, parts=(("roof", "blue"),))),
        (
            "a red car with a blue roof and with green wheels",
            replace(CAR, parts=(("roof", "blue"), ("wheels", "green"))),
        ),
        ("a red car with a roof that is blue", replace(CAR, parts=(("roof", "blue"),))),
        ("a car with red wheels and red wheels", Caption("car", parts=(("wheels", "red"),))),
        # words that are a kind and a part of another: a part where it belongs to what is before it
        ("a snowman with a red hat", Caption("snowman", parts=(("hat", "red"),))),
        (
            "a snowman with a red hat and a blue scarf",
            Caption("snowman", parts=(("hat", "red"), ("scarf", "blue"))),
        ),
        ("a snowman and a red hat", Caption("snowman", relation="beside", other=Caption("hat", "red"))),
        (
            "a snowman with a red scarf beside a hat",
            Caption("snowman", None, None, (("scarf", "red"),), "beside", Caption("hat")),
        ),
        ("a red hat on a brown table", Caption("hat", "red", relation="on", other=TABLE)),
        ("a car with red wheels and a hat", Caption("car", None, None, (("wheels", "red"),), "beside", Caption("hat"))),
        (
            "a cactus with a red pot and a blue flower and a green tree",
            Caption("cactus", None, None, (("pot", "red"), ("flower", "blue")), "beside", TREE),
        ),
        (
            "a thing with red wheels and a blue roof and a green tree",
            Caption(None, None, None, (("wheels", "red"), ("roof", "blue")), "beside", TREE),
        ),
        (
            "a mug with a red handle on a table with blue legs",
            Caption("mug", None, None, (("handle", "red"),), "on", Caption("table", parts=(("legs", "blue"),))),
        ),
    ],
)
def test_what_a_prompt_means(prompt: str, caption: Caption) -> None:
    assert parse(prompt) == caption


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("", "prompt is empty"),
        (" \t\n ", "prompt is empty"),
        ("...", "prompt is empty"),
        ("a red cat", "'cat' (did you mean hat or castle?)"),
        ("a red carr", "'carr' (did you mean car"),
        ("a red \N{AUTOMOBILE}", "'\N{AUTOMOBILE}'"),
        ("a red car \N{ZERO WIDTH JOINER}", r"'\u200d'"),
        ("a red\x00 car", r"'\x00'"),
        ("a red\ud800 car", r"'\ud800'"),
        ("a not red car", "'not'"),
        ("a red car = 3", "'='"),
        ("un \u00e9l\u00e9phant", "'un'"),
        ("x" * 5000, "'" + "x" * 30 + "...'"),
        ("red", 'names no object in "red"'),
        ("a photo of the", "names no object"),
        ("red and blue", "names no object"),
        ("a red car on a blue", 'names no object in "a blue"'),
        ("a red and white car", "several colours (red and white)"),
        ("a red blue car", "several colours (red and blue)"),
        ("a tall narrow car", "several adjectives (tall and narrow)"),
        ("a red car, a tree", "several objects (car and tree)"),
        ("a snowman hat", "several objects (snowman and hat)"),
        ("a car and a tree and a house", "names 3 things"),
        ("a car on", 'nothing on one side of "on"'),
        ("on a table", 'nothing on one side of "on"'),
        ("a car and", 'nothing on one side of "on", "beside" or "and"'),
        ("a mug on on a table", 'nothing on one side of "on"'),
        ("a mug on an airplane", "nothing can stand on an airplane: one of bed, chair, sofa, table can"),
        ("a mug on a thing", "nothing can stand on a thing"),
        ("a red wheels car", "'wheels' is a part: say which colour it has, for example \"a car with red wheels\""),
        ("an airplane wheel", "an airplane has no wheels whose colour may be told: its parts are wings, tail"),
        ("a car with", 'one part of a car and its colour, such as "red wheels", not ""'),
        ("a car with wheels", 'such as "red wheels", not "wheels": its parts are wheels, roof'),
        ("a car with a red", 'not "a red"'),
        ("a car with red wheels and a roof", 'not "a roof"'),
        ("a car with wheels and roof red", 'not "wheels"'),
        ("a car with a red seat", "its parts are wheels, roof"),
        ("a car with a red hat", "its parts are wheels, roof"),
        ("a car with red wheels roof", 'not "red wheels roof"'),
        ("a car with red blue wheels", 'not "red blue wheels"'),
        ("a cactus with a blue flower pot", 'not "a blue flower pot"'),
        ("a car with tall red wheels", 'not "tall red wheels"'),
        ("a car with red wheels, tree", 'not "red wheels tree"'),
        ("a car with red wheels and blue wheels", "gives the wheels two colours, red and blue"),
        ("a robot with a red head and blue legs and green arms", "3 parts of a robot colours: ask for at most 2"),
        ("a thing with red wheels and a blue beak", "nothing has both wheels and beak"),
        ("red " * 3000, 'names no object in "red red'),
        ("a car with " + "tall " * 3000, 'not "tall tall'),
    ],
)
def test_what_cannot_be_understood_is_said_in_one_line(prompt: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        parse(prompt)
    message = str(error.value)
    assert said in message and "\n" not in message and len(message) < 700
    assert any(
        hint in message for hint in ("for example", "such as", "describe it", "its parts are", "one of", "ask for")
    )


def test_whatever_is_written_is_understood_or_is_the_users_mistake() -> None:
    """Random words of the grammar, the ambiguous ones often; what is understood is said and read again."""
    rng, understood = np.random.default_rng(0), 0
    every = [*words(), *variants(), "?!", "\N{AUTOMOBILE}", "\u0307", "3", "\\"]
    often = [
        "with",
        "and",
        "on",
        "beside",
        "next",
        "to",
        "top",
        "of",
        ANY,
        "hat",
        "flower",
        "red",
        "wheels",
        "a",
        "snowman",
    ]
    for _ in range(6000):
        said = rng.choice(often if rng.random() < 0.6 else every, rng.integers(0, 12))
        try:
            caption = parse(" ".join(said))
        except UserError as error:
            assert "\n" not in str(error) and len(str(error)) < 700
            continue
        understood += 1
        assert parse(caption_text(caption)) == caption == parse(caption_text(caption, rng)), said
    assert understood > 300


def test_long_prompts_take_no_time() -> None:
    start = time.process_time()
    for text in ("red and " * 9000, "a car with red wheels and " * 1500, "a car and " * 6000, "thing " * 9000):
        with pytest.raises(UserError):
            parse(text + "with")
    assert time.process_time() - start < 4


def test_other_text_is_named_as_what_it_is() -> None:
    assert known_tokens("Blue MUGS!", "prior.negative") == ["blue", "mug"]
    with pytest.raises(UserError, match=r"prior\.negative is empty"):
        known_tokens(" ", "prior.negative")


def test_kinds_with() -> None:
    assert kinds_with([]) == list(KINDS)
    assert kinds_with(["wheels", "roof"]) == [name for name in KINDS if {"wheels", "roof"} <= set(KINDS[name].parts)]
    assert "car" in kinds_with(["wheels"]) and "boat" not in kinds_with(["wheels"])
    assert kinds_with(["wheels", "beak"]) == []
