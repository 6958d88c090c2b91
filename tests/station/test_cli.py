"""The program ``station``: its commands, its help, its errors."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from station.cli.commands import Command, Group
from station.cli.root import SUMMARIES, describe, root
from station.errors import LinkError

REPOSITORY = Path(__file__).parents[2]
STATION = [sys.executable, "-c", "from station.cli import main; main()"]


def walk(command=root, path=("station",)):
    """Yield each command with its words."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from walk(command.get_command(context, name), (*path, name))


ALL = {" ".join(path): command for path, command in walk()}


@pytest.fixture(params=ALL, ids=lambda path: path.replace(" ", "-"))
def named(request):
    """Return a command line and its command, for all of them."""
    return request.param, ALL[request.param]


@pytest.fixture
def station():
    """Run a command line in this process."""

    def run(*arguments):
        return CliRunner().invoke(root, [str(argument) for argument in arguments])

    return run


def test_the_commands_are_those_of_the_readme():
    assert {line for line, command in ALL.items() if not isinstance(command, click.Group)} == {
        "station init",
        "station slots list",
        "station slots suggest",
        "station slots release",
        "station driver list",
        "station driver example",
        "station driver lint",
        "station driver try",
        "station check",
        "station firmware flash",
        "station firmware key",
        "station firmware pack",
        "station firmware sign",
        "station firmware sign-image",
        "station firmware verify",
        "station firmware show",
        "station firmware unit-data",
        "station order key",
        "station order create",
        "station order sign",
        "station order import",
        "station order list",
        "station order show",
        "station order close",
        "station order resume",
        "station doctor",
        "station run",
        "station demo",
        "station unit list",
        "station unit show",
        "station unit scrap",
        "station unit rework",
        "station unit rma",
        "station unit release",
        "station unit replace",
        "station unit resume",
        "station manifest ledger-key",
        "station manifest checkpoint",
        "station manifest accept",
        "station manifest verify",
        "station manifest prove",
        "station manifest check-proof",
        "station manifest export csv",
        "station manifest export jsonl",
        "station manifest backup",
        "station manifest restore-drill",
        "station manifest doctor",
        "station manifest export aws",
        "station manifest export aws-accounts",
        "station manifest export azure",
        "station manifest export nrfcloud",
        "station manifest export matter",
        "station manifest export jws",
        "station manifest export table",
        "station manifest exports",
        "station manifest export-key",
        "station manifest check-export",
        "station manifest import-receipt",
        "station manifest import-list",
        "station manifest lists",
        "station ca init",
        "station ca audit",
        "station ca ceremony",
        "station ca show",
        "station ca profiles",
        "station ca issue",
        "station ca sign-batch",
        "station ca export",
        "station ca intents",
        "station ca give-up",
        "station ca verification",
        "station ca revoke",
        "station ca hold",
        "station ca release",
        "station ca revoked",
        "station ca crl publish",
        "station ca crl make",
        "station ca crl show",
        "station ca crl adopt",
        "station ca ocsp init",
        "station ca ocsp presign",
        "station ca ocsp serve",
    }


def test_a_command_says_what_it_does(named):
    _, command = named

    assert command.help
    assert re.match(r"[A-Z].*\.$", command.help.split("\n")[0])


def test_a_command_fits_into_the_list_of_its_group(named):
    _, command = named

    assert command is root or not command.get_short_help_str().endswith("...")


def test_help_ends_with_the_examples(named, station):
    line, command = named

    result = station(*line.split()[1:], "--help")

    assert result.exit_code == 0
    assert command.examples
    assert result.output.rstrip().endswith(command.examples[-1].split("\n")[-1])


def test_an_example_is_a_command_line_that_parses(named):
    line, command = named
    for example in command.examples:
        for part in example.replace("\\\n", "").split(" && "):
            words = shlex.split(part.split(" >")[0])
            assert words[0] == "station"
            if not isinstance(command, click.Group):
                parse(words[1:])
    assert isinstance(command, click.Group) or all(example.startswith(line) for example in command.examples)


def parse(words):
    """Parse a command line without running it; raises for one that is wrong."""
    command, context = root, root.make_context("station", list(words))
    while isinstance(command, click.Group):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)


def test_every_option_has_a_help(named):
    _, command = named

    assert [option.name for option in command.params if isinstance(option, click.Option) and not option.help] == []


def test_every_command_is_in_the_docs(named):
    line, _ = named

    assert f"`{line}" in (REPOSITORY / "docs" / "commands.md").read_text()


def test_every_command_is_one_of_ours(named):
    assert isinstance(named[1], Command | Group)


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_summary_is_the_first_sentence_of_the_help(name):
    assert ALL[f"station {name}"].get_short_help_str(100) == SUMMARIES[name]


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from station.cli.root import root\n"
        "try: root.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(*sorted(m for m in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    heavy = {"asyncio", "cryptography", "hsm", "pkcs11", "pydantic", "rich", "serial", "smp", "sqlite3", "sqlite_utils"}
    assert heavy & set(done.stderr.split()) == set()


@pytest.mark.parametrize("name", ["order", "unit", "manifest", "ca", "check", "doctor"])
def test_commands_for_records_and_keys_import_nothing_that_speaks_to_boards(name):
    code = f"import sys; from station.cli.root import root; root.get_command(None, {name!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert {"pydantic", "serial", "smpclient"} & set(done.stdout.split()) == set()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["chekc"], "station: no such command 'chekc'. Did you mean 'check'?; see 'station --help'"),
        (["check", "--jsno"], "station: no such option '--jsno'. Did you mean '--json'?; see 'station check --help'"),
        (["check", "x"], "station: got unexpected extra argument (x); see 'station check --help'"),
        (["unit", "show"], "station: missing argument 'IDENTITY'; see 'station unit show --help'"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_2(station, arguments, line):
    result = station(*arguments)

    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"{line}\n")


def test_a_failure_is_one_line_and_exit_1(station, tmp_path):
    missing = tmp_path / "station.toml"

    result = station("run", "--config", missing)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"station: {missing}: no such file; make one with 'station init'\n"


def test_debug_shows_the_traceback(station, tmp_path):
    result = station("--debug", "run", "--config", tmp_path / "station.toml")

    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("station: ")


def test_without_a_command_the_help_is_shown(station):
    result = station()

    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: station")


def test_a_fault_of_the_program_says_so():
    assert describe(KeyError("a\nb")) == (
        "a fault of this program (KeyError: 'a\\nb'); report it with what 'station --debug …' prints"
    )


def test_a_fault_of_the_program_has_its_own_exit_code(station, tmp_path, monkeypatch):
    def broken(_path):
        raise KeyError("a")

    monkeypatch.setattr("station.cli.run.load", broken)

    assert station("run", "--config", tmp_path / "station.toml").exit_code == 70


def test_an_error_of_ours_is_its_own_line():
    assert describe(LinkError("no such port; plug it in")) == "no such port; plug it in"


def test_an_error_of_the_system_names_the_file():
    assert describe(PermissionError(13, "Permission denied", "/x")) == (
        "/x: Permission denied; check path, owner and mode"
    )


def test_a_reader_that_goes_away_is_no_error():
    process = subprocess.Popen([*STATION, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    with process.stderr as stderr:
        said = stderr.read()

    assert (process.wait(), said) == (141, b"")


def test_a_terminal_without_our_letters_is_no_error(tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(
        [*STATION, "check", "--config", tmp_path / "w→rk.toml"], env=environment, capture_output=True, check=False
    )

    assert (done.returncode, done.stderr) == (1, b"")
    assert b"w?rk.toml: no such file" in done.stdout


def test_completion_knows_the_commands():
    environment = os.environ | {
        "_STATION_COMPLETE": "bash_complete",
        "COMP_WORDS": "station un",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(STATION, env=environment, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["plain,unit"]


def test_ctrl_c_is_one_line_and_exit_130():
    code = (
        "import os, signal, station.config as config\n"
        "config.load = lambda path: os.kill(os.getpid(), signal.SIGINT)\n"
        "from station.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code, "unit", "list"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (130, "station: interrupted\n")
