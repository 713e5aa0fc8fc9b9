"""How a text that a person wrote is parted into words, for grammars and vocabularies alike."""

from __future__ import annotations

import re
import unicodedata

TOKEN = re.compile(r"[^\W_]+|\S")
"""A run of letters and digits, or one other character."""


def split(text: str) -> list[str]:
    """The words of `text`, in order, in lower case. Plain punctuation separates words and is dropped; any other
    character that is no letter or digit (an emoji, say) is a word of its own, so that nothing a person wrote is
    silently ignored."""
    folded = unicodedata.normalize("NFKC", text).lower()
    return [token for token in TOKEN.findall(folded) if not _is_punctuation(token)]


def _is_punctuation(token: str) -> bool:
    return token == "`" or all(unicodedata.category(character)[0] == "P" for character in token)
