"""Building the reference device: cached, locked, and clear about what is missing.

What is built here is hardly run: it is not optimised, which takes less than half of the time.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from firmware_tools.build import SOURCE, build_device, fetch_mbedtls, system_mbedtls_version
from firmware_tools.errors import BuildError, FirmwareToolsError, SourceMissing, ToolMissing

QUICK = "-O0"
pytestmark = pytest.mark.usefixtures("quick_compiler")


def test_a_second_build_leaves_the_program_as_it_is(tmp_path):
    first = build_device(tmp_path)
    built = first.stat().st_mtime_ns
    assert build_device(tmp_path) == first
    assert first.stat().st_mtime_ns == built


@pytest.mark.parametrize("name", ["two words", "it's", "a$b", "a;b#c", "größe"])
def test_any_folder_will_do(tmp_path, name):
    program = build_device(tmp_path / name)
    assert subprocess.run([program, "--help"], check=True, capture_output=True).stdout


def test_a_checkout_in_any_folder_will_do(tmp_path, monkeypatch):
    source = tmp_path / "two words" / "reference_device"
    shutil.copytree(SOURCE, source)
    monkeypatch.setattr("firmware_tools.build.SOURCE", source)
    assert build_device(tmp_path).is_file()


def test_variants_do_not_overwrite_each_other(build_folder, monkeypatch):
    monkeypatch.delenv("CFLAGS")  # what lies there is for all tests
    programs = {build_device(build_folder), build_device(build_folder, test_entropy=True)}
    assert len(programs) == 2


def test_builds_at_the_same_time_give_one_program(tmp_path):
    script = "import sys; from pathlib import Path; from firmware_tools.build import build_device\n"
    script += "print(build_device(Path(sys.argv[1])))"
    command = [sys.executable, "-c", script, str(tmp_path)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    programs = {child.communicate(timeout=100)[0].strip() for child in children}
    assert len(programs) == 1
    assert subprocess.run([*programs, "--help"], check=True, capture_output=True).stdout


def test_a_changed_flag_is_a_new_build(tmp_path, monkeypatch):
    first = build_device(tmp_path).stat().st_mtime_ns
    monkeypatch.setenv("CFLAGS", f"{QUICK} -DCHANGED=1")
    assert build_device(tmp_path).stat().st_mtime_ns > first


def test_a_compiler_error_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("CFLAGS", "-include no-such-header.h")
    with pytest.raises(BuildError, match=r"^the reference device does not build: .*no-such-header") as caught:
        build_device(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_failed_build_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setenv("CFLAGS", "-include no-such-header.h")
    with pytest.raises(BuildError):
        build_device(tmp_path)
    monkeypatch.setenv("CFLAGS", QUICK)
    assert build_device(tmp_path).is_file()


def tools_only(folder, *names):
    """Return a PATH that has these tools only."""
    folder.mkdir()
    for name in names:
        real = next(Path(place) / name for place in os.get_exec_path() if (Path(place) / name).exists())
        (folder / name).symlink_to(real)
    return str(folder)


def test_a_folder_that_can_not_be_made_is_named():
    with pytest.raises(BuildError, match=r"/proc/nowhere/reference-device/.* can't be made"):
        build_device(Path("/proc/nowhere"))


def test_a_missing_compiler_is_named_with_the_packages(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", tools_only(tmp_path / "bin", "make"))
    with pytest.raises(ToolMissing, match=r"cc is missing: apt-get install gcc make libmbedtls-dev"):
        build_device(tmp_path)


def test_a_missing_library_is_named_with_the_packages(tmp_path, monkeypatch):
    compiler = tmp_path / "bin" / "cc"
    monkeypatch.setenv("PATH", tools_only(tmp_path / "bin", "make", "sh", "gcc", "mkdir"))
    compiler.write_text('#!/bin/sh\nexec gcc -nostdinc "$@"\n')
    compiler.chmod(0o755)
    with pytest.raises(ToolMissing, match=r"Mbed TLS is missing: apt-get install gcc make libmbedtls-dev"):
        build_device(tmp_path)


def test_a_folder_that_is_no_source_of_mbedtls_is_named(tmp_path):
    with pytest.raises(SourceMissing, match=r"no source tree of Mbed TLS: run .*fetch-mbedtls-3\.6\.sh"):
        build_device(tmp_path, mbedtls_source=tmp_path / "nothing")


def test_a_source_that_can_not_be_fetched_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("MBEDTLS_MIRROR", "file:///no/such/mirror")
    with pytest.raises(SourceMissing, match=r"^Mbed TLS 3\.6 can't be fetched: .*no/such/mirror") as caught:
        fetch_mbedtls(tmp_path)
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"mbedtls-3.6.lock"}


def test_the_version_of_the_library_is_known():
    assert (2, 28, 0) <= system_mbedtls_version() < (4, 0, 0)


def test_errors_carry_code_operator_and_facts():
    error = ToolMissing("cc is missing", tool="cc")
    assert isinstance(error, FirmwareToolsError)
    assert (error.code, error.facts["tool"]) == ("build.tool_missing", "cc")
    assert error.operator.endswith("then start again.")


def test_the_core_calls_no_heap_and_no_platform():
    """The core is what goes into a product: it may include the freestanding headers, string.h, and its own."""
    allowed = {"<stdbool.h>", "<stddef.h>", "<stdint.h>", "<string.h>"}
    for path in (SOURCE / "core").iterdir():
        includes = {line.split()[1] for line in path.read_text().splitlines() if line.startswith("#include")}
        assert {name for name in includes if name.startswith("<")} <= allowed, path
        assert "malloc" not in path.read_text()
