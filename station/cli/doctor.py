"""``station doctor``."""

import sys
from pathlib import Path

from station.checks.doctor import examine
from station.checks.findings import Level
from station.cli.commands import command, config_option, json_option
from station.cli.findings import show
from station.cli.root import EXIT_FAILURE


@command("doctor", examples=["station doctor", "station doctor --json --config line-1/station.toml"])
@config_option
@json_option("Write one JSON object a finding: check, level, text, advice.")
def doctor(config_path: str, *, as_json: bool) -> None:
    """Examine token, keys, clock, disk and ports.

    Does all that 'station check' does; then logs in to the token (once), asserts the key's attributes, that it is the
    issuer's, and that it signs; compares clock and order with the manifest, validity with the profile; times the disk;
    opens each port that nobody holds. Exit 1 if anything fails; a warning does not fail.
    """
    if Level.FAIL in show(examine(Path(config_path)), as_json=as_json):
        sys.exit(EXIT_FAILURE)
