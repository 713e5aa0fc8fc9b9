"""Between two iterations of a run: what a person has told it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from text23d import interruption
from text23d.engine.build import Parts, retold
from text23d.engine.commands import Command, Guidance, Pause, Prompt, Resume, Stop
from text23d.engine.events import Noted, Paused
from text23d.engine.following import wait
from text23d.engine.live import guidances
from text23d.engine.steering import SECTIONS, altered
from text23d.errors import UserError
from text23d.memory import is_out_of_memory, lack, let_go

if TYPE_CHECKING:
    from text23d.engine.run import Run

TICK = 0.1
"""Seconds between two looks for commands while the run is paused."""


def heed(run: Run) -> None:
    """Do what commands say, and wait while they say so; and what they said to an earlier process before this
    iteration. Raises KeyboardInterrupt where they say that it is to stop."""
    if run.live is not None:
        hear(run)
    changes = run.steering.changes(run.state.iteration)
    if changes != run.steering.told:
        adopt(run, retold(run.parts, altered(run.cfg, changes)))


def hear(run: Run) -> None:
    """The commands that came since the last iteration, and while it is paused."""
    assert run.live is not None, "somebody may tell it something"
    state, live = run.state, run.live
    paused, since = False, time.monotonic()
    for line in live.news():
        run.on_event(Noted(line))
    while True:
        for command in live.received():
            before, paused = paused, obey(run, command, paused)
            if paused and not before:
                since = time.monotonic()
                run.on_event(Paused(state.iteration, run.parts.recipe.iterations))
            elif before and not paused:
                run.on_event(Noted(f"goes on after a pause of {time.monotonic() - since:.0f} s"))
        told = altered(run.cfg, run.steering.told)
        live.tell("paused" if paused else "running", told["prompt"], guidances(told, SECTIONS), state.iteration)
        if not paused:
            return
        with state.clock.stage("paused"):
            interruption.check()
            run.watchdog.alive()
            wait(run.parts.ranks)
            time.sleep(TICK)


def obey(run: Run, command: Command | UserError, paused: bool) -> bool:
    """Do what a command says; whether the run is paused after it. Raises KeyboardInterrupt."""
    iteration = run.state.iteration
    if isinstance(command, UserError):
        run.on_event(Noted(f"refused: {command}"))
    elif isinstance(command, Prompt | Guidance):
        change(run, command)
    else:
        run.steering.add(iteration, command)
        if isinstance(command, Stop):
            run.on_event(Noted(f"told to stop after iteration {iteration}"))
            with run.parts.ranks.together():
                raise KeyboardInterrupt
        paused = isinstance(command, Pause) or (paused and not isinstance(command, Resume))
    return paused


def change(run: Run, command: Prompt | Guidance) -> None:
    """Ask the prior for something else from the next iteration on, if it can be asked for."""
    iteration, steering = run.state.iteration, run.steering
    try:
        parts = retold(run.parts, altered(run.cfg, [*steering.changes(iteration), command]))
    except Exception as error:
        if not (isinstance(error, UserError) or is_out_of_memory(error)):
            raise
        reason = str(error) if isinstance(error, UserError) else lack(error)
        let_go(error)
        steering.add(iteration, command, reason)
        run.on_event(Noted(f"refused: {reason}"))
        return
    steering.add(iteration, command)
    adopt(run, parts)
    if isinstance(command, Prompt):
        what = f"the prompt is {command.prompt!r}"
    else:
        what = f"the guidance{' of windows' if command.of == 'windows' else ''} is {command.scale:g}"
    run.on_event(Noted(f"from iteration {iteration + 1} on {what}"))


def adopt(run: Run, parts: Parts) -> None:
    """Go on with these parts, which follow from all changes up to now."""
    iteration = run.state.iteration
    run.parts, run.steering.told = parts, run.steering.changes(iteration)
    if run.checkpoints.best.get("iteration", iteration) <= run.steering.last(iteration):
        run.checkpoints.best = {}  # the judge was asked for something else
