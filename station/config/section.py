"""The station's files are read with ``hsm.toml``; their mistakes are ``ConfigError``."""

from typing import TypeAlias

from hsm import toml
from hsm.toml import nearest
from station.errors import ConfigError

__all__ = ["Document", "Section", "nearest", "parse"]

Document: TypeAlias = toml.Document[ConfigError]
Section: TypeAlias = toml.Section[ConfigError]


def parse(text: str, *, name: str) -> Document:
    """Parse a text.

    Raises:
        ConfigError: it is not TOML.
    """
    return toml.Document.parse(text, name=name, refusal=_refusal)


def _refusal(sentence: str, path: str, line: int) -> ConfigError:
    return ConfigError(sentence, path=path, line=line)
