"""The line at work: from the daemon down to one step of one board.

Open first: ``unit.py``, the way of one board; ``policy.py``, its steps and rules. ``slot_worker.py`` serves one slot,
``daemon.py`` all of them, and ``demo.py`` rehearses with virtual boards.
"""
