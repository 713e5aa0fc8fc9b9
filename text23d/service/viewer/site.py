"""The server of the page: it draws what each browser looks at, coarsely while the camera moves, and finer at rest."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import numpy as np
import rich
import viser

from text23d.contracts import Shape
from text23d.engine.live import WATCHED
from text23d.engine.snapshots import Snapshot
from text23d.errors import UserError
from text23d.loopback import is_loopback
from text23d.service.viewer.drawing import DARK, WHITE, FreeCamera, Pace, draw, sheet
from text23d.service.viewer.page import Page
from text23d.service.viewer.placing import add_mesh, upright
from text23d.service.viewer.source import Source

REFRESH = 0.5
"""Seconds between two looks at the run's folder."""
IDLE = 0.05
MOVING = 0.25
"""Seconds after its last movement for which a camera counts as moving."""
PORTS = 100
"""That are tried, from the one that was asked for on."""
QUALITY = 85
POSTER = (160, 200)
"""The shape of the picture that is there before a browser says where it looks from."""
START = (1.5, -2.6, 0.8)
"""Where a camera begins, in scene units: before the object, which faces -Y, to its right."""
FOV = 0.7


class Local(viser.ViserServer):
    """viser's server, without the tunnel to a server of others that any browser could have it open."""

    def request_share_url(self, verbose: bool = True) -> str | None:
        return None


@dataclass
class Eye:
    """What one browser looks at. moved: when its camera did last; drawn: of which snapshot and which camera it has a
    picture, and how high that is in pixels."""

    client: Any
    moved: float = field(default_factory=time.monotonic)
    drawn: tuple[int, float] = (-1, -1.0)
    height: int = 0

    def wanted(self, iteration: int, pace: Pace) -> Shape | None:
        """The shape of the picture that it lacks most; None: it has all that it needs."""
        camera = self.client.camera
        aspect, tall = float(camera.aspect), int(camera.image_height)
        coarse, finest = pace.coarse(aspect), pace.finest(aspect, tall)
        if self.drawn != (iteration, self.moved):
            return coarse
        if time.monotonic() - self.moved < MOVING or self.height >= 0.9 * finest[0]:
            return None
        high = min(finest[0], 2 * self.height)
        return high, max(1, round(high * finest[1] / finest[0]))


class Site:
    """A page on this machine's own address. Raises UserError for another host, and where no port is free."""

    def __init__(self, source: Source, host: str, port: int, dark: bool) -> None:
        self.source, self.ground, self.pace = source, DARK if dark else WHITE, Pace()
        require_loopback(host)
        rich.get_console().quiet = True
        self.server = Local(host, free_port(host, port), label="text23d", verbose=False)
        self.address = f"http://{host if ':' not in host else f'[{host}]'}:{self.server.get_port()}"
        self.wake, self.eyes, self.lock = threading.Event(), dict[int, Eye](), threading.Lock()
        refuse_strangers(self.server)
        self.server.gui.configure_theme(dark_mode=dark, show_share_button=False, show_logo=False)
        self.server.gui.main_panel.dock_right()
        self.page = Page(self.server.gui, source, self.wake.set)
        self._frames: dict[int, Any] = {}
        self._refreshed, self._mesh, self._mesh_of = 0.0, None, 0
        self._flat: Any = None
        self._flat_of = self._poster_of = -1
        self._look()
        self._warm()
        self.server.on_client_connect(self._come)
        self.server.on_client_disconnect(self._gone)

    def _look(self) -> None:
        """Where cameras begin."""
        camera = self.server.initial_camera
        camera.position, camera.look_at = (START if self.source.is_object else (0.0, -2.4, 0.0)), (0.0, 0.0, 0.0)
        camera.up, camera.fov = (0.0, 0.0, 1.0), FOV

    def _warm(self) -> None:
        """Do once what takes long the first time, before somebody waits for it."""
        self._blank(self.server.scene)
        self.refresh()
        request = Request(f"{self.address}/", headers={"Accept-Encoding": "gzip"})
        with suppress(OSError), build_opener(ProxyHandler({})).open(request, timeout=10) as page:
            page.read()

    def _poster(self) -> None:
        """What a browser sees until it says where its camera is: the newest snapshot, from where cameras begin. Only
        while nobody looks, since it takes the place of what everyone sees."""
        if self.eyes or not self.source.is_object:
            return
        snapshot = self.snapshot()
        if snapshot is not None and snapshot.iteration != self._poster_of:
            self._poster_of = snapshot.iteration
            picture = draw(snapshot, FreeCamera.towards_middle(START, FOV), POSTER, self.ground)
            self.server.scene.set_background_image(picture, format="jpeg", jpeg_quality=QUALITY)

    def _blank(self, scene: Any) -> None:
        """Nothing but the ground behind what stands in a scene."""
        scene.set_background_image(np.full((8, 8, 3), round(255 * self.ground), np.uint8), format="jpeg")

    def _come(self, client: Any) -> None:
        eye = Eye(client)
        with self.lock:
            self.eyes[client.client_id] = eye

        def move(camera: Any) -> None:
            eye.moved = time.monotonic()
            self.wake.set()

        client.camera.on_update(move)
        self._watched()
        self.wake.set()

    def _gone(self, client: Any) -> None:
        with self.lock:
            self.eyes.pop(client.client_id, None)

    def serve(self, over: Callable[[], bool]) -> None:
        """Until `over`."""
        while not over():
            self.wake.clear()
            now = time.monotonic()
            if now - self._refreshed >= REFRESH:
                self._refreshed = now
                self.refresh()
            if not self.draw():
                self.wake.wait(IDLE if self.eyes else REFRESH)

    def refresh(self) -> None:
        """What the folder says now, for the page and for the run, which wants to know whether somebody looks."""
        self._frames = self.source.frames()
        self.page.refresh(list(self._frames))
        if self.eyes:
            self._watched()
        self._poster()
        self._show_mesh()

    def _watched(self) -> None:
        if self.source.running:
            with suppress(OSError):  # of a folder that cannot be written to
                (self.source.folder / WATCHED).touch()

    def snapshot(self) -> Snapshot | None:
        """What is to be shown: what was chosen, else the newest that is whole."""
        numbers = [self.page.chosen] if self.page.chosen in self._frames else sorted(self._frames, reverse=True)
        for number in numbers:
            found = self.source.snapshot(self._frames[number]) if number is not None else None
            if found is not None:
                return found
        return None

    def draw(self) -> bool:
        """One picture, for the browser that lacks it most. Says whether there was one to draw."""
        with self.lock:
            eyes = sorted(self.eyes.values(), key=lambda eye: (eye.height, eye.moved))
        snapshot = self.snapshot() if eyes else None
        if snapshot is None:
            return False
        self.page.show_pictures(snapshot.iteration, None if snapshot.seen is None else snapshot.seen.numpy())
        if not self.source.is_object:
            return self._show_flat(snapshot)
        if self._mesh is not None and self._mesh.visible:
            return False
        for eye in eyes:
            shape = eye.wanted(snapshot.iteration, self.pace)
            if shape is not None:
                self._draw_for(eye, snapshot, shape)
                return True
        return False

    def _draw_for(self, eye: Eye, snapshot: Snapshot, shape: Shape) -> None:
        camera, moved, start = eye.client.camera, eye.moved, time.monotonic()
        view = FreeCamera.of(camera.position, camera.wxyz, camera.fov)
        picture = draw(snapshot, view, shape, self.ground)
        self.pace.drew(shape, time.monotonic() - start)
        eye.drawn, eye.height = (snapshot.iteration, moved), shape[0]
        eye.client.scene.set_background_image(picture, format="jpeg", jpeg_quality=QUALITY)
        eye.client.flush()

    def _show_flat(self, snapshot: Snapshot) -> bool:
        """What is no object, as a picture that stands upright before the camera."""
        if snapshot.iteration == self._flat_of:
            return False
        self._flat_of = snapshot.iteration
        try:
            picture = sheet(self.source.preview(snapshot))
        except UserError as error:
            self.source.note(str(error))
            return False
        self._flat = upright(self.server.scene, "/picture", picture)
        return True

    def _show_mesh(self) -> None:
        """The mesh in place of the NeRF, where it is wanted."""
        path = self.source.mesh() if self.page.with_mesh and self.source.is_object else None
        if path is None:
            if self._mesh is not None and self._mesh.visible:
                self._mesh.visible = False
                for eye in list(self.eyes.values()):
                    eye.drawn = (-1, -1.0)
            return
        made, snapshot = path.stat().st_mtime_ns, self.snapshot()
        if self._mesh is None or made != self._mesh_of:
            with suppress(OSError):
                self._mesh, self._mesh_of = add_mesh(self.server.scene, path.read_bytes(), snapshot), made
        if self._mesh is not None:
            self._mesh.visible = True
            for eye in list(self.eyes.values()):
                self._blank(eye.client.scene)

    def close(self) -> None:
        self.server.stop()


def require_loopback(host: str) -> None:
    """Raises UserError for a host that others can reach: whoever opens the page steers the run."""
    if not is_loopback(host):
        raise UserError(
            f"host={host}: expected an address of this machine alone, as 127.0.0.1, since whoever opens the page "
            "steers the run; from elsewhere use ssh -L 8080:127.0.0.1:8080 <this machine>"
        )


def free_port(host: str, port: int) -> int:
    """The first port from `port` on that nobody uses. Raises UserError where there is none near."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in range(port, min(port + PORTS, 65_536)):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if os.name != "nt":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, number))
            except OSError:
                continue
            return number
    raise UserError(f"port={port}: it and the {PORTS} after it are in use at {host}; choose another")


def refuse_strangers(server: Any) -> None:
    """Close connections that pages of other origins open: a browser lets any page of the web try."""
    sockets = server._websock_server  # viser has no public way to the headers of a connection

    async def examine(connection: Any) -> None:
        live = sockets._live_connections.get(connection.client_id)
        origin = live.request.headers.get("Origin") if live is not None and live.request is not None else None
        if origin is not None and not is_local(origin):
            await live.close(1008, "only pages of this machine may connect")

    sockets._client_connect_cb.insert(0, examine)


def is_local(origin: str) -> bool:
    """Whether an Origin header names a page that this machine serves, at whatever port, as a tunnel has another."""
    return is_loopback(urlsplit(origin).hostname or "")
