"""What a virtual board may be: the names that ``reference-device --persona`` takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = ["DEFAULT_PERSONA", "PERSONAS", "Persona"]

DEFAULT_PERSONA: Final = "smp"
"""What boards speak unless told otherwise: the provisioning group."""


@dataclass(frozen=True, slots=True)
class Persona:
    """One of them."""

    has_uuids: bool = False
    """Hardware ids are UUIDs; otherwise they look like a microcontroller's unique id."""


PERSONAS: Final[Mapping[str, Persona]] = MappingProxyType(
    {
        DEFAULT_PERSONA: Persona(),
        "nrf91": Persona(has_uuids=True),
        "nrf91-shell": Persona(has_uuids=True),
        "nrf91-old": Persona(has_uuids=True),
        "zephyr-shell": Persona(),
        "zephyr-shell-noisy": Persona(),
        "home-made": Persona(),
    }
)
"""Each one but the default is a line of ``reference_device/persona/personas.c`` too."""
