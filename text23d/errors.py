"""What goes wrong, told apart by whose fault it is."""

from __future__ import annotations


class UserError(Exception):
    """A mistake of the user's: its message is one line saying what was given, what was expected and what to do."""


class TooLarge(UserError):
    """What was asked for does not fit into memory."""


class Diverged(UserError):
    """The optimisation met a number that is not finite."""


class Hung(UserError):
    """A run gave no sign of life for too long."""


class RankError(UserError):
    """What one of several processes met that do one job together; its message names the process."""


class RankLost(RankError):
    """One of several processes has ended, or does not answer."""


class Interrupted(KeyboardInterrupt):
    """A run was stopped from outside; its message says how far it came."""
