"""The line: slots, units, manifest, daemon and command line.

Open first, by what you look for:

- ``line/``: the daemon, the worker of a slot, the way of one unit and its rules.
- ``orders/``: what may be made, signed by whoever ordered it. ``ordering.py``: the order that a line runs under.
- ``manifest/``: what the line did, in SQLite. ``ledger/``: proof that nobody changed it afterwards.
- ``exports/``: the manifest for somebody else's program. ``imports/``: what comes back, and lists from elsewhere.
- ``devices/``: how the station talks to a board. ``ports/``: serial ports, hotplug, slots, transcripts.
- ``config/``: ``station.toml``. ``checks/``: ``station check`` and ``station doctor``.
- ``cli/``: the command line. ``events.py``: what the line tells whoever watches.
- ``testing/``: a scripted board, for people who write drivers.
- ``product_firmware.py``: the bundle that boards are flashed with. ``firmware_keys.py``: keys that sign firmware.
- ``signing.py``: opens the HSM tokens. ``revoking.py``, ``crl_places.py``: from units to revocation lists.
- ``locking.py``: what is closed on a board before it leaves. ``numbering.py``: serials and MAC addresses.
- ``errors.py``: what can go wrong.

This package knows ``hsm`` and ``firmware_tools``; neither knows it.
"""
