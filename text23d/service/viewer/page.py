"""What stands beside the picture: how far the run is, buttons, wishes, pictures of the last iteration and figures."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from text23d.engine.commands import Command, Guidance, Pause, Prompt, Resume, Stop, send
from text23d.errors import UserError
from text23d.service.viewer.source import Source

ROWS = ("rendering", "target", "target - rendering")
PLOTS = {"sigma": "sigma", "loss": "loss", "noise_ratio": "noise ratio", "score": "score"}
STROKES = {"sigma": "#1971c2", "loss": "#e8590c", "noise_ratio": "#2f9e44", "score": "#9c36b5"}
SIDE = 64
"""Pixels of a picture below which it is shown enlarged."""
LAST = 5
"""Changes that are listed."""


class Page:
    """The panel of one server, the same for all who look. changed: is called when other pictures are wanted."""

    def __init__(self, gui: Any, source: Source, changed: Callable[[], None]) -> None:
        self.gui, self.source, self.changed = gui, source, changed
        self.chosen: int | None = None
        self.with_mesh = False
        self.said = ""
        self._frames: list[int] = []
        self._pictures_of = -1
        self.title = gui.add_markdown("")
        self.progress = gui.add_progress_bar(0.0)
        self._buttons()
        self._shown()
        self._wishes()
        with gui.add_folder("Last iteration"):
            blank = np.full((SIDE, 4 * SIDE, 3), 255, np.uint8)
            self.pictures = [gui.add_image(blank, label=name, format="png", visible=False) for name in ROWS]
        with gui.add_folder("Figures"):
            self.plots = {name: self._plot(name, title) for name, title in PLOTS.items()}
        self.changes = gui.add_markdown("")

    def _buttons(self) -> None:
        self.pause, self.resume, self.stop = (self.gui.add_button(each) for each in ("Pause", "Resume", "Stop"))
        for button, kind in ((self.pause, Pause), (self.resume, Resume), (self.stop, Stop)):
            button.on_click(lambda event, kind=kind: self.send(kind()))

    def _wishes(self) -> None:
        """What may be asked for instead, from the next iteration on."""
        guidance = self.source.status().get("guidance") or {}
        with self.gui.add_folder("Ask for something else") as self.wishes:
            self.prompt = self.gui.add_text("Prompt", str(self.source.cfg.get("prompt", "")))
            self.guidance = {
                of: self.gui.add_number(label, float(guidance.get(of) or 0), min=0.0, max=1000.0, step=0.1)
                for of, label in (("views", "Guidance"), ("windows", "Guidance of windows"))
            }
            apply = self.gui.add_button("Apply", hint="From the next iteration on")
        self._told = {"prompt": self.prompt.value, **{of: each.value for of, each in self.guidance.items()}}
        apply.on_click(lambda event: self.ask())

    def _shown(self) -> None:
        """Which snapshot is shown, and whether its mesh."""
        with self.gui.add_folder("Show"):
            self.newest = self.gui.add_checkbox("Newest snapshot", True)
            self.slider = self.gui.add_slider("Snapshot", min=0, max=1, step=1, initial_value=0)
            self.label = self.gui.add_markdown("")
            self.mesh = self.gui.add_checkbox("Mesh", False, visible=False)
            self.download = self.gui.add_button("Download GLB", visible=False)
        self.newest.on_update(lambda event: self._choose())
        self.slider.on_update(lambda event: self._scrubbed(event))
        self.mesh.on_update(lambda event: self._choose())
        self.download.on_click(self._sent)

    def _plot(self, name: str, title: str) -> Any:
        nothing = np.zeros(1)
        series = ({"label": "iteration"}, {"label": title, "stroke": STROKES[name], "width": 2})
        scales = {"x": {"time": False}}
        if name == "score":
            series[1]["points"] = {"show": True}
        return self.gui.add_uplot((nothing, nothing), series, title=title, scales=scales, aspect=2.0, visible=False)

    # What a person does

    def send(self, command: Command) -> None:
        """Leave a command for the run, or say why that cannot be."""
        try:
            if not self.source.listens:
                raise UserError("nothing to tell: no run that listens is on its way")
            send(self.source.folder, command)
            self.said = ""
        except UserError as error:
            self.said = str(error)
        self.changed()

    def ask(self) -> None:
        """Send what is another than was told."""
        before = dict(self._told)
        if self.prompt.value.strip() != before["prompt"]:
            self.send(Prompt(self.prompt.value.strip()))
        for of, field in self.guidance.items():
            if field.value != before[of]:
                self.send(Guidance(float(field.value), "views" if of == "views" else "windows"))
        self._told = {"prompt": self.prompt.value.strip(), **{of: each.value for of, each in self.guidance.items()}}

    def _scrubbed(self, event: Any) -> None:
        if event.client is not None:  # and not the page itself
            self.newest.value = False
        self._choose()

    def _choose(self) -> None:
        index = min(int(self.slider.value), len(self._frames) - 1)
        self.chosen = None if self.newest.value or index < 0 else self._frames[index]
        self.with_mesh = bool(self.mesh.value)
        self.changed()

    def _sent(self, event: Any) -> None:
        path = self.source.mesh()
        if path is not None and event.client is not None:
            name = f"{self.source.folder.resolve().name}.glb"
            event.client.send_file_download(name, path.read_bytes(), save_immediately=True)

    # What the run does

    def refresh(self, frames: list[int]) -> None:
        """Say what is in the folder now. frames: the iterations of which there are snapshots."""
        status, running, lines = self.source.status(), self.source.running, self.source.lines()
        listens = running and bool(status)
        paused = listens and status.get("state") == "paused"
        done = int(lines[-1]["iteration"]) if lines else 0
        total = max(done, int(status.get("iterations") or self._planned()))
        state = "paused" if paused else "on its way" if running else "finished" if self.source.summary() else "ended"
        prompt = str(status.get("prompt") or self.source.cfg.get("prompt", ""))
        self._set(self.title, "content", self._headline(prompt, state, done, total, listens, running))
        self._set(self.progress, "value", 100.0 * done / max(1, total))
        for button, enabled in ((self.pause, listens and not paused), (self.resume, paused), (self.stop, listens)):
            self._set(button, "disabled", not enabled)
        self._set(self.wishes, "visible", listens)
        self._adopt(prompt, status.get("guidance") or {})
        self._frames_are(frames)
        has_mesh = self.source.mesh() is not None
        for handle in (self.mesh, self.download):
            self._set(handle, "visible", has_mesh)
        self._plots()
        told = "\n".join(f"- {as_it_is(each)}" for each in self.source.commands()[-LAST:])
        self._set(self.changes, "content", f"**Changed on the way**\n\n{told}" if told else "")

    def _planned(self) -> int:
        planned = (self.source.cfg.get("method") or {}).get("iterations", 0)
        return planned if isinstance(planned, int) else 0

    def _headline(self, prompt: str, state: str, done: int, total: int, listens: bool, running: bool) -> str:
        lines = [f"**{as_it_is(prompt)}**", f"{state}, iteration {done} of {total}"]
        if running and not listens:
            lines.append("It was started without `viewer=on`: it can be watched, and not steered.")
        if self.said:
            lines.append(as_it_is(self.said))
        return "\n\n".join(lines)

    def _adopt(self, prompt: str, guidance: Any) -> None:
        """The fields say what the run is told, unless somebody is writing into them."""
        for name, field in (("prompt", self.prompt), *self.guidance.items()):
            now = prompt if name == "prompt" else guidance.get(name)
            if name != "prompt":
                self._set(field, "visible", now is not None)
                now = self._told[name] if now is None else float(now)
            if field.value == self._told[name] != now:
                field.value = now
                self._told[name] = now

    def _frames_are(self, frames: list[int]) -> None:
        if frames != self._frames and frames:
            self._frames = frames
            self._set(self.slider, "max", max(1, len(frames) - 1))
            if self.newest.value:
                self.slider.value = len(frames) - 1
        shown = self.chosen if self.chosen is not None else frames[-1] if frames else None
        self._set(self.label, "content", "no snapshot yet" if shown is None else f"after iteration {shown}")

    def show_pictures(self, iteration: int, seen: np.ndarray | None) -> None:
        """What the iteration of a snapshot saw, uint8 [3, H, W, 3]."""
        if iteration != self._pictures_of:
            self._pictures_of = iteration
            for index, handle in enumerate(self.pictures):
                if seen is not None:
                    handle.image = seen[index]
                self._set(handle, "visible", seen is not None)

    def _plots(self) -> None:
        figures = self.source.figures()
        columns = {name: (figures["iteration"], figures[name]) for name in PLOTS if name in figures}
        columns["score"] = self.source.scores()
        for name, (at, values) in columns.items():
            known = np.isfinite(values)
            data = at[known], values[known]
            plot = self.plots[name]
            self._set(plot, "visible", len(data[0]) > 0)
            if len(data[0]) and (len(data[0]) != len(plot.data[0]) or data[0][-1] != plot.data[0][-1]):
                plot.data = data

    def _set(self, handle: Any, name: str, value: Any) -> None:
        """Set what is another than before: every setting is a message to everyone who looks."""
        if getattr(handle, name) != value:
            setattr(handle, name, value)


def as_it_is(text: str) -> str:
    """A text as Markdown that shows just that: what a folder says may be anybody's, and is no link, picture or tag."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))
