"""``python tests/bench``: see ``bench/program.py``."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # so that this folder is a package, and hides no other module

from bench.program import main  # noqa: E402 - only now it can be found

if __name__ == "__main__":
    main()
