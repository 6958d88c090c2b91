"""Where a board is plugged in, and the bytes between it and the station.

Open first: ``link.py``, an open port; ``hotplug.py``, which ports come and go; ``slots.py``, which slot of the line
that is. Nothing here knows what is said over a port: that is the work of ``station.devices``.
"""
