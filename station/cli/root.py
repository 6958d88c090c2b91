"""The program ``station``: its list of commands, and what becomes of errors.

=====  ==============================================================================================================
exit   when
=====  ==============================================================================================================
0      it is done
1      it failed, or the answer is no (a check failed, a board did not pass)
2      the command line is wrong
70     a fault of this program (``EX_SOFTWARE`` of sysexits.h); a service may be started anew
130    ctrl-C
141    who read the output went away (``station unit list | head``); nothing is said
=====  ==============================================================================================================

A failure is one line on stderr, ``station: what is wrong; what to do``. ``--debug`` (or ``STATION_DEBUG=1``) puts the
traceback above it.
"""

import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click
from click.shell_completion import shell_complete

from station.cli.commands import LazyGroup
from station.cli.output import discard_stdout

EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
EXIT_FAULT: Final = 70
EXIT_INTERRUPTED: Final = 130
EXIT_BROKEN_PIPE: Final = 141

_SYSTEM_ADVICE: Final = {errno.ENOSPC: "make space", errno.EMFILE: "raise the limit of open files (ulimit -n)"}

SUMMARIES: Final = {
    "init": "Write a commented station.toml into a folder.",
    "slots": "Show the ports that boards are plugged into.",
    "driver": "Try and check the languages of boards.",
    "check": "Check station.toml and what it names.",
    "order": "Make, sign and import production orders.",
    "firmware": "Sign images, and make firmware bundles.",
    "doctor": "Examine token, keys, clock, disk and ports.",
    "run": "Provision each board that is plugged in.",
    "demo": "Rehearse with virtual boards.",
    "unit": "Look at single boards.",
    "manifest": "Hand out what is on record, and prove it.",
    "ca": "Make and look at the certificate authority.",
}
"""The commands in the order in which a line is set up."""


class Root(LazyGroup):
    """The program; see the module docstring."""

    def main(  # type: ignore[override]  # click's can be told to return; this one never does
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        **extra: Any,  # noqa: ANN401 (click's)
    ) -> NoReturn:
        """Run a command line and leave the process with its exit code."""
        arguments = list(sys.argv[1:] if args is None else args)
        name = prog_name or self.name or "station"
        if instruction := os.environ.get("_STATION_COMPLETE"):
            sys.exit(shell_complete(self, {}, name, "_STATION_COMPLETE", instruction))
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal without our symbols shows '?', and the boards go on
        try:
            with self.make_context(name, list(arguments), **extra) as context:
                self.invoke(context)
            sys.stdout.flush()
        except click.exceptions.Exit as leave:
            sys.exit(leave.exit_code)
        except click.exceptions.NoArgsIsHelpError as question:
            question.show()
            sys.exit(EXIT_USAGE)
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else name
            _fail(f"{_lower(error.format_message())}; see '{path} --help'", EXIT_USAGE)
        except (KeyboardInterrupt, click.Abort):
            _fail("interrupted", EXIT_INTERRUPTED)
        except BrokenPipeError:
            discard_stdout()  # the interpreter flushes once more when it ends, and would complain
            sys.exit(EXIT_BROKEN_PIPE)
        except Exception as error:  # noqa: BLE001 (this is where all of them end)
            if is_debugging(arguments):
                traceback.print_exc()
            _fail(describe(error), EXIT_FAILURE if _is_explained(error) else EXIT_FAULT)
        sys.exit(0)


def describe(error: Exception) -> str:
    """Return the line for an error: what is wrong; what to do."""
    if isinstance(error, click.ClickException):
        return _lower(error.format_message())
    if hasattr(error, "operator"):  # the house's own, of any floor
        return str(error)
    if isinstance(error, OSError):
        what = f"{error.filename or 'input or output'}: {error.strerror or error}"
        return f"{what}; {_SYSTEM_ADVICE.get(error.errno or 0, 'check path, owner and mode')}"
    text = " ".join(str(error).split())
    return f"a fault of this program ({type(error).__name__}: {text}); report it with what 'station --debug …' prints"


def _is_explained(error: Exception) -> bool:
    """Whether an error says what to do; otherwise the program is wrong, and trying again may help."""
    return isinstance(error, click.ClickException | OSError) or hasattr(error, "operator")


def is_debugging(arguments: Sequence[str]) -> bool:
    """Whether tracebacks are wanted."""
    return "--debug" in arguments or os.environ.get("STATION_DEBUG", "") not in ("", "0")


def _lower(sentence: str) -> str:
    """Turn click's sentences into the first half of our line."""
    line = " ".join(sentence.split()).rstrip(".")
    return line[:1].lower() + line[1:]


def _fail(line: str, code: int) -> NoReturn:
    click.echo(f"station: {line}", err=True)
    sys.exit(code)


@click.group(
    "station",
    cls=Root,
    package="station.cli",
    summaries=SUMMARIES,
    examples=["station init line-1", "station run --config line-1/station.toml", "station COMMAND --help"],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="provisioning-station", message="%(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def root(debug: bool) -> None:  # noqa: FBT001 (a flag of the command line)
    """Provision boards: firmware in, key made on the board, certificate from the HSM, proof in the manifest."""
    del debug  # looked up where a failure ends, for those before this function too
