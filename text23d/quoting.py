"""Texts as Hydra's grammar reads them."""

from __future__ import annotations

import re
from collections.abc import Collection

QUOTED = r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\""
"""A text in quotes, as a pattern."""
RESOLVERS = r"now|slug|covering|window_count|sound_frames|staged|hydra|oc\.\w+"
"""What a configuration computes, as a pattern of names."""


def quoted(text: str, names: Collection[str] | None = None) -> str:
    """`text` in quotes, so that Hydra's grammar and OmegaConf's interpolations give it back as it is: `null`, `!`, `(`
    or `${seed}`. With `names`, whole references to those settings and to what is computed, as ${now:%H}, stay such."""
    whole = ""
    if names is not None:
        known = "|".join([RESOLVERS, *map(re.escape, names)])
        whole = rf"(?!\$\{{(?:{known})(?::[^{{}}]*(?:\{{[^{{}}]*\}}[^{{}}]*)*)?\}})"
    text = re.sub(rf"(\\*){whole}\$\{{", r"\1\1\\${", text)
    text = re.sub(r"(\\*)(')", r"\1\1\\\2", text)  # Hydra: backslashes count only before a quote
    return "'" + re.sub(r"(\\+)$", r"\1\1", text) + "'"
