"""Words, for grammars and vocabularies alike: how a text that a person wrote is parted into them, and what is said of
unknown ones."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence

TOKEN = re.compile(r"[^\W_]+|\S")
"""A run of letters and digits, or one other character."""


def split(text: str) -> list[str]:
    """The words of `text`, in order, in lower case. Plain punctuation separates words and is dropped; any other
    character that is no letter or digit (an emoji, say) is a word of its own, so that nothing a person wrote is
    silently ignored."""
    folded = unicodedata.normalize("NFKC", text).lower()
    return [token for token in TOKEN.findall(folded) if not _is_punctuation(token)]


def unknown(word: str, known: Sequence[str], reader: str) -> str:
    """What is wrong with a word that `reader` has not among the `known`, on one line, with the nearest of them."""
    near = difflib.get_close_matches(word, known, n=2, cutoff=0.6)
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    shown = word if len(word) <= 30 else word[:30] + "..."
    return f"{reader} does not know the word {shown!r}{hint}"


def an(said: str) -> str:
    """A noun or a phrase after its article."""
    return f"{'an' if said[0] in 'aeiou' else 'a'} {said}"


def _is_punctuation(token: str) -> bool:
    return token == "`" or all(unicodedata.category(character)[0] == "P" for character in token)
