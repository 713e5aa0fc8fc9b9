"""`python unwrap.py <pid>`: xatlas in a process of its own, which can be stopped when it hangs.

Reads an .npz with vertices [V, 3], normals [V, 3] and faces [F, 3] from stdin; writes one with `vertex` [W], the old
vertex that each new one is, `faces` [F, 3] and `uv` [W, 2] in [0, 1] to stdout. On Linux it ends with its parent, whose
pid is the argument.
"""

import ctypes
import io
import os
import signal
import sys

PADDING = 3  # texels between charts: more than a filter that halves a texture once can reach over
PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


def end_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends: a killed one cannot, and xatlas does not listen."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended already
            sys.exit(1)


if __name__ == "__main__":
    end_with(int(sys.argv[1]))

import numpy as np  # noqa: E402
import xatlas  # noqa: E402


def unwrap(vertices: np.ndarray, normals: np.ndarray, faces: np.ndarray, size: int) -> tuple[np.ndarray, ...]:
    """The new vertices' old numbers [W], the faces [F, 3] and uv [W, 2] of an atlas of about size x size texels."""
    atlas, packing = xatlas.Atlas(), xatlas.PackOptions()
    atlas.add_mesh(vertices.astype(np.float32), faces.astype(np.uint32), normals.astype(np.float32))
    packing.resolution, packing.padding = size, PADDING
    atlas.generate(pack_options=packing)
    return atlas[0]


if __name__ == "__main__":
    given = np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
    vertex, faces, uv = unwrap(given["vertices"], given["normals"], given["faces"], int(given["size"]))
    np.savez(sys.stdout.buffer, vertex=vertex, faces=faces, uv=uv)
