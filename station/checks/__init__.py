"""What is looked at before the line runs, so that it does not stop at the first board.

Open first: ``preflight.py``, the configuration and what it names (``station check``); ``doctor.py``, token, disk and
ports as well (``station doctor``).
"""
