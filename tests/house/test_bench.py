"""The benchmarks in their short form: each still works and yields its figures. Their timed limits are not tests."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"

FIGURES = {
    "line": {"units a second", "memory of the station at its peak"},
    "wire": {"at 115200: a unit, times the least", "at 921600: a unit, times the least", "share of the wire: Base64"},
    "flash": {"base64: one board", "raw: slowest of 16 at once", "base64: smpclient, one board"},
    "nordic": {
        "modem: one unit, times faster than the installer",
        "shell: many at once, times faster than one after another",
    },
    "issue": {"certificates a second, 64 units at once", "the token alone, C_Sign in a tight loop"},
    "rom_loaders": {"one esptool flash alone", "many at once, times one alone"},
    "emulated": {"at 921600: boards that passed", "at 921600: from blank to PASS"},
    "cli": {"station --help", "python -c pass"},
    "batch": {"openssl ca, one process a certificate", "sign-batch beside it"},
    "revocation": {"answers signed ahead", "its memory at most", "a delta and a shard of one entry beside it"},
    "ledger": {"a checkpoint of one more event", "verify", "findings in a manifest that nobody touched"},
    "faults": {"kills", "lost", "doubled", "unrecorded", "over budget", "one bit in 1,000 turned: passed wrongly"},
    "hostile": {"malformed answers", "crashes", "steps beyond their deadline", "memory that a process gained"},
    "scale": {"issuing, times the empty manifest", "look-up by public key", "memory that the export took"},
    "export": {"aws: seconds a million units", "nrfcloud: memory", "jws: share of the token's own C_Sign"},
}
"""Figures that each benchmark has to yield, among others."""

MISSED = 1


def bench(*arguments, folder):
    command = [sys.executable, BENCH, *arguments, "--short", "--json", "--dir", folder]
    return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_a_benchmark_yields_its_figures_and_keeps_the_limits_that_are_not_timed(name, tmp_path):
    done = bench(name, folder=tmp_path)
    assert done.returncode in (0, MISSED), done.stderr
    figures = [line for line in map(json.loads, done.stdout.splitlines()) if line["event"] == "figure"]
    assert FIGURES[name] <= {figure["figure"] for figure in figures if figure["benchmark"] == name}
    assert [figure["figure"] for figure in figures if not figure["met"] and not figure["timed"]] == []
    assert (done.returncode == MISSED) == any(not figure["met"] for figure in figures)


def test_every_benchmark_is_run_in_the_short_form():
    modules = {path.stem for path in BENCH.glob("*.py") if "\ndef measure(" in path.read_text()}
    assert modules == FIGURES.keys()


def test_an_unknown_benchmark_is_refused(tmp_path):
    done = bench("speed", folder=tmp_path)
    assert done.returncode == 2
    assert "'speed' is not one of" in done.stderr


def test_a_missed_limit_is_one_line_and_an_exit_status(tmp_path):
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from bench import cli, program
cli.MAX_SECONDS = 0.0
sys.argv[1:] = ["cli", "--short", "--json", "--dir", sys.argv[2]]
program.main()
"""
    command = [sys.executable, "-c", code, BENCH.parent, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == MISSED
    last = done.stderr.splitlines()[-1]
    assert last.startswith("bench: missed: cli: station --help ")
    assert last.endswith(" ms, at most 0")
