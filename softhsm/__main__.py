"""``python -m softhsm DIR LABEL...`` makes tokens and prints how to reach them."""

import shlex
import sys
from pathlib import Path

from softhsm.tokens import SoftHsmError, make_tokens

USAGE = "usage: python -m softhsm DIR LABEL...\nexample: python -m softhsm demo/hsm root intermediate\n"


def main(arguments: list[str]) -> int:
    """Make the tokens; print a line for the shell, then one URI a token."""
    match arguments:
        case [directory, *labels] if labels and not directory.startswith("-"):
            try:
                made = make_tokens(Path(directory), labels)
            except SoftHsmError as error:
                sys.stderr.write(f"{error}\n")
                return 1
            sys.stdout.write(f"export SOFTHSM2_CONF={shlex.quote(str(made.conf))}\n")
            sys.stdout.writelines(f"{made.uri(label)}\n" for label in made.labels)
            return 0
        case _:
            sys.stderr.write(USAGE)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
