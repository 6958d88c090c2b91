"""Click commands as this program wants them: each with an example, imported when it is used."""

import difflib
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


class _WithExamples(click.Command):
    """A command whose help ends with examples.

    Args:
        *args: click's.
        examples: whole command lines; one may go on in the next line after a backslash.
        **kwargs: click's.
    """

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:  # noqa: ANN401 (click's own)
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples after the options."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples" if len(self.examples) > 1 else "Example"):
                for line in "\n".join(self.examples).split("\n"):
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


class Command(_WithExamples):
    """A command that does something."""


class Group(_WithExamples, click.Group):
    """A command that holds others."""

    command_class = Command


class LazyGroup(Group):
    """A group whose commands are imported when they are used.

    Args:
        *args: click's.
        package: where the modules are, one a command; module and command in it have the command's name.
        summaries: what each command is for, by its name, as ``--help`` lists them.
        **kwargs: click's.
    """

    def __init__(self, *args: Any, package: str, summaries: Mapping[str, str], **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.package = package
        self.summaries = summaries

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """Return the names in the order in which a line is set up."""
        return list(self.summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        if cmd_name not in self.summaries:
            return None
        found = getattr(importlib.import_module(f"{self.package}.{cmd_name}"), cmd_name)
        assert isinstance(found, click.Command)  # noqa: S101 (the convention of the package)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of a command line; click's own search knows only what is imported."""
        if args[0] not in self.summaries and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], self.summaries, n=1)
            ctx.fail(f"No such command '{args[0]}'." + (f" Did you mean '{close[0]}'?" if close else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries.items()))


def command(name: str, *, examples: Sequence[str]) -> Callable[[Callable[..., Any]], Command]:
    """Make a function a command; one of a group is made by ``group.command``, which takes ``examples`` too."""
    return click.command(name, cls=Command, examples=examples)


config_option = click.option(
    "--config",
    "-c",
    "config_path",
    type=click.Path(dir_okay=False),
    default="station.toml",
    show_default=True,
    envvar="STATION_CONFIG",
    help="The station's configuration.",
)
"""The option of all commands that work for one station."""


def json_option(help_text: str) -> Callable[[Function], Function]:
    """Return the option of commands whose output a program may read."""
    return click.option("--json", "as_json", is_flag=True, help=help_text)
