"""The line at work: from the daemon down to one step of one board.

Open first: ``unit.py``, the way of one board; ``policy.py``, its steps and rules. ``slot_worker.py`` serves one slot,
``daemon.py`` all of them, and ``demo.py`` rehearses with virtual boards (``demo_firmware.py``, ``rehearsal.py``).

- What a unit goes through: ``stepping.py`` runs a step, ``flashing.py`` and ``unit_data.py`` write the board,
  ``issuing.py`` gets its certificate, ``evidence.py`` and ``proof.py`` ask for its key, ``chip_locks.py`` closes the
  chip.
- What units share: ``workshop.py`` on the line, ``seat.py`` on a slot with its driver (``drivers.py``).
- Beside the units: ``quarantine.py`` says who is to blame and what stops; ``crl_schedule.py`` and
  ``ledger_schedule.py`` keep their times; ``control.py`` and ``asked_book.py`` do what is asked of a line that runs.
- ``batch.py``: flashing alone, without a line.
"""
