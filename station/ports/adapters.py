"""What a USB serial adapter calls itself."""

import os
from pathlib import Path

from station.errors import printable
from station.ports.event import PortEvent


def product_name(port: PortEvent, sysfs: Path = Path("/sys")) -> str:
    """Return manufacturer, product and serial of the adapter behind a port; empty for other ports.

    The texts come from the device's descriptors: they are escaped, and bounded.
    """
    place = Path(os.path.realpath(sysfs / "class/tty" / Path(port.device).name))
    for folder in place.parents:
        if (folder / "idVendor").exists():
            return " ".join(filter(None, (_attribute(folder / name) for name in ("manufacturer", "product", "serial"))))
    return ""


def _attribute(path: Path) -> str:
    try:
        return printable(path.read_text(encoding="utf-8", errors="replace").strip())
    except OSError:
        return ""
