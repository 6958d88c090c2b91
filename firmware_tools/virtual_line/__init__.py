"""A production line without hardware: boards behind serial ports that can be harmed as real ones are.

Open first ``line.py``: starts N boards in one folder. ``docs/virtual-line.md`` is its page for users;
``python -m firmware_tools line`` is the same as a program.

- ``board.py``: one slot and the board in it; what a hand does to it. ``faults.py``: what a board suffers by itself.
  ``bench.py``: what the slots of a line share.
- ``machine.py``, ``emulated_board.py``: what boards are made of, a Linux process or a microcontroller in QEMU.
- ``personas.py``: what boards may be, and which language they speak.
- ``wire.py``: what a wire does to bytes, as pure arithmetic. ``relay.py``: puts it between two file descriptors.
- ``pseudo_terminal.py``: a serial port without hardware.

Knows nothing of: stations, and what the bytes on a wire mean. The boards run ``firmware_tools/reference_device``.
"""
