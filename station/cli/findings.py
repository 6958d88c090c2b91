"""How findings are shown: one line each as they come, since some take seconds."""

from collections.abc import Iterable
from typing import Final

import click

from station.checks.findings import Finding, Level
from station.cli.output import print_json

_COLOURS: Final = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}
_CHECK_WIDTH: Final = 14


def show(findings: Iterable[Finding], *, as_json: bool) -> set[Level]:
    """Print findings; return the levels that occurred."""
    levels = set()
    for finding in findings:
        levels.add(finding.level)
        if as_json:
            print_json(finding)
            continue
        mark = click.style(f"{finding.level.value:<4}", fg=_COLOURS[finding.level], bold=finding.level is not Level.OK)
        advice = f"; {finding.advice}" if finding.advice else ""
        click.echo(f"{mark}  {finding.check:<{_CHECK_WIDTH}}  {finding.text}{advice}")
    return levels
