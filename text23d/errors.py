"""What goes wrong, told apart by whose fault it is."""

from __future__ import annotations


class UserError(Exception):
    """A mistake of the user's: its message is one line saying what was given, what was expected and what to do."""
