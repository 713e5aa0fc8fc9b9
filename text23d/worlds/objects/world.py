"""The toy box as a world."""

from __future__ import annotations

from dataclasses import dataclass

from text23d.worlds.objects.caption import Caption, known_tokens, parse


@dataclass(frozen=True)
class Objects:
    """Implements `contracts.World`."""

    def read(self, prompt: str) -> Caption:
        return parse(prompt)

    def tokens(self, prompt: str, setting: str = "prompt") -> tuple[str, ...]:
        return tuple(known_tokens(prompt, setting))
