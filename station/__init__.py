"""The line: slots, units, manifest, daemon and command line.

Open first, by what you look for:

- ``line/``: the daemon, the worker of a slot, the way of one unit and its rules.
- ``manifest/``: what the line did, in SQLite. ``exports/``: the same for somebody else's program.
- ``devices/``: how the station talks to a board. ``ports/``: serial ports, hotplug, slots, transcripts.
- ``config/``: ``station.toml``. ``checks/``: ``station check`` and ``station doctor``.
- ``cli/``: the command line. ``events.py``: what the line tells whoever watches.
- ``testing/``: a scripted board, for people who write drivers.
- ``firmware.py``: keys that sign firmware. ``signing.py``: opens the HSM tokens. ``errors.py``: what can go wrong.

This package knows ``hsm`` and ``firmware_tools``; neither knows it.
"""
