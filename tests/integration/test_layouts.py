"""A bundle's folder as an Arduino library and as a Zephyr module, against their specifications."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from headgate.compile.backend.link import zig
from headgate.compile.firmware.float_abi import fit_either_float_abi
from headgate.compile.firmware.layouts import add_layout
from headgate.device import Bundle, runtime_sources
from headgate.device.targets import get_target
from tests.integration.test_project import bundle

# Library specification 1.5, rev. 2.2: the fields without "optional", and the categories.
ARDUINO_REQUIRED = {"name", "version", "author", "maintainer", "sentence", "paragraph"}
ARDUINO_REQUIRED |= {"category", "url", "architectures"}
ARDUINO_OPTIONAL = {"depends", "dot_a_linkage", "includes", "precompiled", "ldflags"}
CATEGORIES = {"Display", "Communication", "Signal Input/Output", "Sensors", "Device Control"}
CATEGORIES |= {"Timing", "Data Storage", "Data Processing", "Other"}


def laid_out(folder: Path, layout: str) -> Path:
    add_layout(bundle("cortex-m4"), layout).save_folder(folder / "fw")
    # Still a bundle, whole.
    assert Bundle.open(folder / "fw").members.keys() > bundle("cortex-m4").members.keys()
    return folder / "fw"


def test_an_arduino_library(tmp_path: Path) -> None:
    folder = laid_out(tmp_path, "arduino")
    lines = (folder / "library.properties").read_text().splitlines()
    fields = dict(line.split("=", 1) for line in lines)
    assert len(fields) == len(lines)
    assert ARDUINO_REQUIRED <= fields.keys() <= ARDUINO_REQUIRED | ARDUINO_OPTIONAL
    assert all(fields.values())
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.-]*", fields["name"])
    assert re.search("[A-Za-z]", fields["name"]) and not fields["name"].startswith("Arduino")
    assert re.fullmatch(r"\d+\.\d+\.\d+", fields["version"])
    assert fields["category"] in CATEGORIES
    assert fields["precompiled"] in ("true", "full")
    sources = folder / "src"
    assert {path.name for path in sources.iterdir()} == {
        "sequential.h",
        "headgate.h",
        "cortex-m4",
    }
    assert (sources / fields["includes"]).is_file()
    (library,) = (sources / "cortex-m4").iterdir()
    assert library.name == f"lib{fields['ldflags'].removeprefix('-l')}.a"
    plain, either = (folder / "code" / library.name).read_bytes(), library.read_bytes()
    changed = [(a, b) for a, b in zip(plain, either, strict=True) if a != b]
    assert changed == [(1, 3)] * 3  # kernels, network, library; the weights pass nothing
    # A sketch lies in a folder of its own name.
    (sketch,) = (folder / "examples").glob("*/*.ino")
    assert sketch.stem == sketch.parent.name
    if shutil.which("arm-none-eabi-g++"):
        check_sketch(sketch, sources, tmp_path)


CALLER = """
#include "sequential.h"
static _Alignas(64) unsigned char arena[SEQUENTIAL_ARENA_BYTES];
static float image[SEQUENTIAL_INPUT0_BYTES / 4], scores[SEQUENTIAL_OUTPUT0_BYTES / 4];
float twice(float x) { return 2 * x; }
void _start(void)
{
    const void *inputs[] = { image };
    void *outputs[] = { scores };
    sequential_run(inputs, outputs, arena, sizeof arena, 0);
    scores[0] = twice(scores[0]);
}
"""


@pytest.mark.parametrize("abi", ["hard", "softfp"])
def test_an_arduino_library_links_with_either_float_abi(abi: str, tmp_path: Path) -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed: apt install gcc-arm-none-eabi")
    sources = laid_out(tmp_path, "arduino") / "src"
    (tmp_path / "caller.c").write_text(CALLER)
    shutil.copy(runtime_sources("baremetal") / "memory.c", tmp_path)
    command = ["arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", f"-mfloat-abi={abi}"]
    command += ["-mfpu=fpv4-sp-d16", "-ffreestanding", "-fno-builtin", "-nostdlib", f"-I{sources}"]
    command += ["caller.c", "memory.c", f"-L{sources}/cortex-m4", "-lsequential", "-o", "program"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_library_that_passes_floats_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("float expf(float); float f(float x) { return expf(x); }\n")
    target = get_target("cortex-m4")
    machine = ["-target", str(target.zig), f"-mcpu={target.zig_cpu}", "-fno-builtin"]
    zig(tmp_path, "cc", *machine, "-c", "a.c", "-o", "a.o")
    zig(tmp_path, "ar", "rcsD", "liba.a", "a.o")
    library = (tmp_path / "liba.a").read_bytes()
    assert fit_either_float_abi(library) == library
    named = library.replace(b"expf", b"memf")
    assert sum(a != b for a, b in zip(fit_either_float_abi(named), named, strict=True)) == 1


def check_sketch(sketch: Path, sources: Path, folder: Path) -> None:
    """It is C++ that compiles, given what Arduino declares."""
    (folder / "Arduino.h").write_text(
        "#include <stddef.h>\nstruct Port { void begin(long); void print(const char *);"
        "void print(long); void println(unsigned long); };\nextern Port Serial;\n"
        "unsigned long micros();\nvoid delay(unsigned long);\n"
    )
    command = ["arm-none-eabi-g++", "-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=auto"]
    command += ["-Wall", "-Werror", "-include", str(folder / "Arduino.h"), f"-I{sources}"]
    command += ["-x", "c++", "-fsyntax-only", str(sketch)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_zephyr_module(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    folder = laid_out(tmp_path, "zephyr")
    about = yaml.safe_load((folder / "zephyr/module.yml").read_text())
    assert about == {
        "name": "sequential",
        "build": {"cmake": "zephyr", "kconfig": "zephyr/Kconfig"},
    }
    # As scripts/zephyr_module.py of Zephyr looks for them.
    assert (folder / about["build"]["cmake"] / "CMakeLists.txt").is_file()
    kconfig = (folder / about["build"]["kconfig"]).read_text()
    (symbol,) = re.findall(r"^config (\w+)$", kconfig, re.MULTILINE)
    assert symbol == "HEADGATE_SEQUENTIAL"
    assert "\tdepends on CPU_CORTEX_M4\n" in kconfig and "FP_HARDABI" in kconfig
    assert f"CONFIG_{symbol}" in (folder / "zephyr/CMakeLists.txt").read_text()


@pytest.mark.parametrize("wanted", [True, False])
def test_what_a_zephyr_module_gives_to_cmake(wanted: bool, tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed: apt install cmake")
    folder = laid_out(tmp_path, "zephyr")
    application = tmp_path / "application"
    application.mkdir()
    # Zephyr's two functions, as its cmake/modules/extensions.cmake declares them.
    (application / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(application LANGUAGES NONE)\n"
        "function(zephyr_library_import name path)\n"
        '  file(APPEND said "library ${name} ${path}\\n")\nendfunction()\n'
        'function(zephyr_include_directories)\n  file(APPEND said "include ${ARGV}\\n")\n'
        "endfunction()\n"
        f"add_subdirectory({folder}/zephyr module)\n"
    )
    command = ["cmake", "-B", "build", f"-DCONFIG_HEADGATE_SEQUENTIAL={'y' if wanted else ''}"]
    done = subprocess.run(command, cwd=application, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = [path for path in tmp_path.rglob("said")]
    assert bool(said) == wanted
    if wanted:
        (kind, name, path), (other, include) = (
            line.split() for line in said[0].read_text().splitlines()
        )
        assert (kind, name, other) == ("library", "sequential", "include")
        assert Path(path).read_bytes() == (folder / "code/libsequential.a").read_bytes()
        assert (Path(include) / "sequential.h").is_file()
