"""The virtual boards of a rehearsal, in place of real ones."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from firmware_tools.build import build_device, build_firmware
from firmware_tools.virtual_line.line import DEFAULT_MACHINE, VirtualLine
from firmware_tools.virtual_line.wire import Wire
from station.config import Config, RehearsalSection, SlotConfig
from station.config.languages import PERSONA_DRIVERS


@asynccontextmanager
async def virtual_line(rehearsal: RehearsalSection, model: str) -> AsyncIterator[VirtualLine]:
    """Power the boards, for as long as the block goes.

    Args:
        rehearsal: which, and where.
        model: what their firmware calls itself.

    Raises:
        FirmwareToolsError: they can't be built or started.
    """
    program = await asyncio.to_thread(program_of, rehearsal)
    async with described(rehearsal, program, model) as line:
        yield line


def program_of(rehearsal: RehearsalSection) -> Path:
    """Build what the boards come with, unless that was done before. Blocks.

    Raises:
        FirmwareToolsError: it can't be built.
    """
    build = rehearsal.directory / "build"
    if rehearsal.machine == DEFAULT_MACHINE:
        return build_device(build)
    return build_firmware(build, machine=rehearsal.machine).bootloader


def described(rehearsal: RehearsalSection, program: Path, model: str) -> VirtualLine:
    """Return the boards of a rehearsal, not powered yet.

    Raises:
        FirmwareToolsError: there can't be such boards.
    """
    return VirtualLine(
        program,
        rehearsal.directory,
        rehearsal.boards,
        model=model,
        wire=None if rehearsal.baud is None else Wire(baud=rehearsal.baud),
        persona=rehearsal.persona,
        machine=rehearsal.machine,
        image_key=rehearsal.image_key,
    )


def slots_of(config: Config) -> tuple[SlotConfig, ...]:
    """Return the slots of a configuration; in a rehearsal without any, each virtual board has one."""
    if config.slots or config.rehearsal is None:
        return config.slots
    directory, driver = config.rehearsal.directory, PERSONA_DRIVERS[config.rehearsal.persona]
    return tuple(
        SlotConfig(name=str(number), port=str(directory / f"slot{number}"), usb=None, baud=115200, driver=driver)
        for number in range(1, config.rehearsal.boards + 1)
    )
