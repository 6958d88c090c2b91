"""``python -m firmware_tools.rom_loaders``: virtual chips for tools that others wrote."""

import contextlib
import signal
import sys
from pathlib import Path

import click

from firmware_tools.rom_loaders import Chip, Faults, esp_chips, stm32
from firmware_tools.rom_loaders.esp import EspLoader
from firmware_tools.rom_loaders.flash_file import FlashFile
from firmware_tools.rom_loaders.ports import PtyPort, Rfc2217Port

_EPILOG = """\b
Examples:
  python -m firmware_tools.rom_loaders esp32c3 boards
  esptool --port boards/1 write-flash 0 image.bin
  python -m firmware_tools.rom_loaders F4 boards --rfc2217 4000
"""


@click.command(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("chip", metavar="CHIP", type=click.Choice([*esp_chips.CHIPS, *stm32.CHIPS]))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--count", default=1, type=click.IntRange(1, 64), help="How many.  [default: 1]")
@click.option("--megabytes", default=4, type=click.IntRange(1, 128), help="Flash of an Espressif chip.  [default: 4]")
@click.option("--paced", is_flag=True, help="Bytes take their time at the baud.")
@click.option("--rfc2217", "tcp_port", type=click.IntRange(1, 65535), help="Serve ports from this one on, not ptys.")
@click.option("--power-cut-after", type=click.IntRange(0), help="Written bytes after which the power is cut.")
@click.option("--unplug-after", type=click.IntRange(1), help="Received bytes after which the cable is pulled (ptys).")
@click.option("--silent-from", type=click.IntRange(1), help="Number of the command that gets no answer any more.")
@click.option("--wrong-hash", is_flag=True, help="Say another hash than the flash has.")
@click.option("--protected", is_flag=True, help="An ST chip that refuses to be read.")
def main(  # noqa: PLR0913 - one argument an option
    chip: str,
    folder: Path,
    *,
    count: int,
    megabytes: int,
    paced: bool,
    tcp_port: int | None,
    power_cut_after: int | None,
    unplug_after: int | None,
    silent_from: int | None,
    wrong_hash: bool,
    protected: bool,
) -> None:
    """Make chips whose loader answers, until interrupted.

    CHIP is esp32, esp32s3, esp32c3, esp32c6, or a family of ST's: F1, F4, L4.

    FOLDER holds a file CHIP-N.bin for the flash of each, and a link N to its port.
    """
    faults = Faults(power_cut_after=power_cut_after, silent_from=silent_from, wrong_hash=wrong_hash)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            for number in range(1, count + 1):
                one = _chip(chip, folder / f"{chip}-{number}.bin", megabytes << 20, faults, protected=protected)
                if tcp_port is None:
                    port = PtyPort(one, folder / str(number), paced=paced, unplug_after=unplug_after)
                    name = str(port.link)
                    stack.callback(port.close)
                else:
                    server = Rfc2217Port(one, paced=paced, port=tcp_port + number - 1)
                    name = server.url
                    stack.callback(server.close)
                click.echo(name)
            sys.stdout.flush()
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    except OSError as error:
        where = error.filename or (folder if tcp_port is None else f"port {tcp_port} of TCP")
        raise click.ClickException(f"{where}: {error.strerror}") from error
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def _chip(name: str, path: Path, size: int, faults: Faults, *, protected: bool) -> Chip:
    if name in esp_chips.CHIPS:
        return EspLoader(esp_chips.CHIPS[name], FlashFile(path, size), faults=faults)
    kind = stm32.CHIPS[name]
    return stm32.Stm32Loader(kind, FlashFile(path, kind.size), protected=protected, faults=faults)


if __name__ == "__main__":
    main(prog_name="python -m firmware_tools.rom_loaders")
