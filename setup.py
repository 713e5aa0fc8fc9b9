"""Builds the kernels of cuda_ext into text23d/kernels, if there is a C++ compiler; with nvcc, those for CUDA as well.

It needs no torch and never fails. On x86-64 a library is built for each of LEVELS, of which kernels/backend.py chooses
one at run time; elsewhere one for all processors of the kind. TEXT23D_ARCH names one processor to build for instead, as
the compiler's -march does: native, x86-64-v3. TEXT23D_CUDA_ARCH names the compute capabilities, for instance "90"
(default "80 86 89 90", and PTX of the last for later ones).
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

CPU_SOURCES = sorted(path.as_posix() for path in Path("cuda_ext/cpu").glob("*.cpp"))
CUDA_SOURCES = sorted(path.as_posix() for path in Path("cuda_ext/cuda").glob("*.cu"))
HEADERS = sorted(path.as_posix() for path in Path("cuda_ext").rglob("*.h"))
NATIVE = "text23d.kernels._native"
LEVELS = {"": "x86-64", "_v3": "x86-64-v3", "_v4": "x86-64-v4"}
"""Suffixes of the libraries -> what they are built for: any x86-64, and those with AVX2 or AVX-512."""


class BuildKernels(build_ext):
    """Plain shared libraries under fixed names, not Python modules: any Python 3 of the machine can load them."""

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")) + (".dll" if sys.platform == "win32" else ".so")

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return []

    def build_extension(self, ext: Extension) -> None:
        # Where the C++ compiler failed, through which nvcc works, too, there is nothing to try.
        if ext.name != NATIVE and not Path(self.get_ext_fullpath(NATIVE)).exists():
            return
        if ext.name.endswith("_cuda"):
            self.build_cuda(ext)
            return
        if len(libraries()) == 1:  # those of an earlier build would be preferred
            for suffix in filter(None, LEVELS):
                Path(self.get_ext_fullpath(NATIVE + suffix)).unlink(missing_ok=True)
        reason: Exception | None = None
        for compile_flags, link_flags in flag_sets(self.compiler.compiler_type, processor(ext.name)):
            ext.extra_compile_args, ext.extra_link_args = compile_flags, link_flags
            try:
                super().build_extension(ext)
                return
            # Whatever stops the compiler, the package works without it.
            except Exception as error:
                reason = error
        if ext.name == NATIVE:
            print(f"text23d: kernels not compiled ({reason}); the slower torch twins will serve", file=sys.stderr)

    def build_cuda(self, ext: Extension) -> None:
        out = Path(self.get_ext_fullpath(ext.name))
        if not (self.force or newer_group([*ext.sources, *ext.depends], str(out), "newer")):
            return
        out.parent.mkdir(parents=True, exist_ok=True)
        command = [str(find_nvcc()), *nvcc_flags(self.compiler.compiler_type), *ext.sources, "-o", str(out)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[0]
            print(f"text23d: CUDA kernels not compiled ({said}); torch will serve on CUDA", file=sys.stderr)


def libraries() -> list[str]:
    """The modules' names of the CPU libraries to build."""
    several = platform.machine() in ("x86_64", "AMD64") and sys.platform != "win32" and "TEXT23D_ARCH" not in os.environ
    return [NATIVE + suffix for suffix in LEVELS] if several else [NATIVE]


def processor(name: str) -> str:
    """What the library of this name is built for, as -march says it; empty: what the compiler takes for granted."""
    several = len(libraries()) > 1
    return LEVELS[name.removeprefix(NATIVE)] if several else os.environ.get("TEXT23D_ARCH", "")


def flag_sets(compiler: str, processor: str) -> list[tuple[list[str], list[str]]]:
    """Compiler and linker flags, the fastest first. No contraction to fused multiply-adds and no fast maths: marching
    then takes the very decisions of its torch twin. errno and the processor's exception flags, which nobody reads,
    would keep loops from being vectorised."""
    if compiler == "msvc":
        return [(["/std:c++17", "/O2", "/fp:precise", *openmp], []) for openmp in (["/openmp"], [])]
    common = ["-std=c++17", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]
    march = [f"-march={processor}"] if processor else []
    return [([*common, *march, *openmp], openmp) for openmp in (["-fopenmp"], [])]


def nvcc_flags(compiler: str) -> list[str]:
    """nvcc's flags beside the host `compiler`, with the same arithmetic as `flag_sets`."""
    capabilities = os.environ.get("TEXT23D_CUDA_ARCH", "80 86 89 90").split()
    machine_code = [f"-gencode=arch=compute_{each},code=sm_{each}" for each in capabilities]
    ptx = f"-gencode=arch=compute_{capabilities[-1]},code=compute_{capabilities[-1]}"
    host = [] if compiler == "msvc" else ["-Xcompiler=-fPIC,-fvisibility=hidden"]
    if "CXX" in os.environ:
        host.append(f"-ccbin={os.environ['CXX']}")
    return ["-shared", "-std=c++17", "-O3", "-fmad=false", "--threads=0", *machine_code, ptx, *host]


def find_nvcc() -> Path | None:
    """CUDA's compiler: that of CUDA_HOME, on the PATH, or where CUDA puts it."""
    home = os.environ.get("CUDA_HOME")
    folders = [f"{home}/bin"] if home else [os.environ.get("PATH", os.defpath), "/usr/local/cuda/bin"]
    found = shutil.which("nvcc", path=os.pathsep.join(folders))
    return Path(found) if found else None


kernels = [Extension(name, CPU_SOURCES, depends=HEADERS, language="c++", optional=True) for name in libraries()]
if find_nvcc() is not None:
    kernels.append(Extension("text23d.kernels._cuda", CUDA_SOURCES, depends=HEADERS, optional=True))
setup(
    # The configuration stays at the top of the checkout, and is installed inside the package.
    packages=[*find_packages(include=["text23d", "text23d.*"]), "text23d.conf"],
    package_dir={"text23d.conf": "conf"},
    ext_modules=kernels,
    cmdclass={"build_ext": BuildKernels},
)
