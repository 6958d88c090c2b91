"""TOML files that people write: read once, with complaints that name the line and what to write instead.

Open first: ``section.py``, which reads a table and complains; ``lines.py`` finds the line of a key.

This package knows nothing of keys and certificates; ``station`` reads its own files with it too.
"""

from hsm.toml.section import Document, Section, nearest

__all__ = ["Document", "Section", "nearest"]
