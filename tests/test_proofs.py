"""The table of what is proven names tests that exist."""

import re
from pathlib import Path


def test_every_proof_named_exists() -> None:
    here = Path(__file__).parent
    named = set(re.findall(r"`(test_\w+)`", (here / "README.md").read_text()))
    there = {name for file in here.glob("test_*.py") for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)}
    assert len(named) > 40 and named <= there, named - there
