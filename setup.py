"""Builds the kernels of cuda_ext into text23d/kernels, if there is a C++ compiler. It needs no torch and never fails.

TEXT23D_ARCH names the processor to build for (default "native", this machine's), for instance x86-64-v3.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

SOURCES = sorted(path.as_posix() for path in Path("cuda_ext/cpu").glob("*.cpp"))
HEADERS = sorted(path.as_posix() for path in Path("cuda_ext").rglob("*.h"))


class BuildKernels(build_ext):
    """A plain shared library under a fixed name, not a Python module: any Python 3 of the machine can load it."""

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")) + (".dll" if sys.platform == "win32" else ".so")

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return []

    def build_extension(self, ext: Extension) -> None:
        for compile_flags, link_flags in flag_sets(self.compiler.compiler_type):
            ext.extra_compile_args, ext.extra_link_args = compile_flags, link_flags
            try:
                super().build_extension(ext)
                return
            # Whatever stops the compiler, the package works without it.
            except Exception as error:
                reason = error
        print(f"text23d: kernels not compiled ({reason}); the slower torch twins will serve", file=sys.stderr)


def flag_sets(compiler: str) -> list[tuple[list[str], list[str]]]:
    """Compiler and linker flags, the fastest first. No contraction to fused multiply-adds and no fast maths: marching
    then takes the very decisions of its torch twin, and no result depends on the processor's instructions."""
    if compiler == "msvc":
        return [(["/std:c++17", "/O2", "/fp:precise", *openmp], []) for openmp in (["/openmp"], [])]
    common = ["-std=c++17", "-O3", "-ffp-contract=off", "-fvisibility=hidden"]
    march = f"-march={os.environ.get('TEXT23D_ARCH', 'native')}"
    return [
        ([*common, march, "-fopenmp"], ["-fopenmp"]),
        ([*common, "-fopenmp"], ["-fopenmp"]),
        ([*common, march], []),
        (common, []),
    ]


kernels = Extension("text23d.kernels._native", SOURCES, depends=HEADERS, language="c++", optional=True)
setup(
    # The configuration stays at the top of the checkout, and is installed inside the package.
    packages=[*find_packages(include=["text23d", "text23d.*"]), "text23d.conf"],
    package_dir={"text23d.conf": "conf"},
    ext_modules=[kernels],
    cmdclass={"build_ext": BuildKernels},
)
