"""Tell systemd how the daemon is (``sd_notify(3)``); without systemd every call does nothing."""

import os
import socket


def notify(state: str) -> None:
    """Send one state, such as ``READY=1``, ``STOPPING=1`` or ``WATCHDOG=1``, to the socket systemd named."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket, written with @ for its leading zero byte
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door:
        try:
            door.sendto(state.encode(), address)
        except OSError:  # systemd may be restarting; the next call will do
            return


def watchdog_interval() -> float | None:
    """Return how often to send ``WATCHDOG=1``, in seconds: half of what systemd allows; None when it does not watch."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2_000_000 if microseconds.isdigit() and int(microseconds) else None
