"""The command line, ``station``.

Each command is a module of this package, and in it a click command of the same name. It is imported when it is used:
``station --help`` has to be there at once, and most of what a command needs is heavy. So ``__init__``, ``root``,
``commands`` and ``output`` import nothing but click and the standard library.

Open first: ``root.py``, which turns what happens into lines and exit codes.
"""


def main() -> None:
    """Run the program ``station``."""
    from station.cli.root import root  # noqa: PLC0415 (the package is imported by each of its modules)

    root.main()
