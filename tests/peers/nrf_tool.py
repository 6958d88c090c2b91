"""Runs a program of nRF Cloud Utils, as it is, on a tty that is no USB adapter.

``python nrf_tool.py TTY MODULE [ARGUMENTS]``. The tools take only ports that pyserial lists, and it lists no
pseudo-terminals; here it lists the one that is named.
"""

import importlib
import os
import sys

from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

if __name__ == "__main__":
    port = os.path.realpath(sys.argv[1])
    list_ports.comports = lambda: [ListPortInfo(port)]
    importlib.import_module(sys.argv[2]).main([*sys.argv[3:], "--port", port])
