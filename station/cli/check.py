"""``station check``."""

import sys
from pathlib import Path

from station.checks.findings import Level
from station.checks.preflight import examine
from station.cli.commands import command, config_option, json_option
from station.cli.findings import show
from station.cli.root import EXIT_FAILURE


@command("check", examples=["station check", "station check --json --config line-1/station.toml"])
@config_option
@json_option("Write one JSON object a finding: check, level, text, advice.")
def check(config_path: str, *, as_json: bool) -> None:
    """Check station.toml and what it names.

    Looks at the configuration (all its errors, each with its line), certificates, profile, PIN file, folders and ports.
    The HSM is not woken, no port is opened, nothing is written. Exit 1 if anything fails; a warning does not fail.
    """
    if Level.FAIL in show(examine(Path(config_path)), as_json=as_json):
        sys.exit(EXIT_FAILURE)
