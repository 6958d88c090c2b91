"""One SQLite file with one writer, whose rows are durable before anybody is told.

What the line's manifest and the CA's journal have in common. A kind of file is described by a ``FileKind``: its name in
codes and sentences, its schema, its errors. With that:

- ``lock.py``: one writer a file.
- ``opening.py``: how the file is opened, and what is refused before anything in it is touched.
- ``writer.py``: the thread that writes, and commits for several callers at once.
- ``clock.py``: times as they are stored, and the guards against a clock that goes back, or ahead of itself.
- ``opened.py`` puts these together: ``OpenFile``, and ``reader.py``: ``Reader``, for those who only look.
- ``refusal.py``: what an error of SQLite means.

Knows nothing of: what is in the tables.
"""

from hsm.durable.clock import CLOCK_TOLERANCE, JUMP_TOLERANCE, Clock, Stamps, SteadyClock, time_text, utc_now
from hsm.durable.kind import ErrorKinds, FileKind
from hsm.durable.lock import WriterLock
from hsm.durable.opened import OpenFile
from hsm.durable.opening import program_version
from hsm.durable.reader import Reader, Row
from hsm.durable.writer import Operation, Writer

__all__ = [
    "CLOCK_TOLERANCE",
    "JUMP_TOLERANCE",
    "Clock",
    "ErrorKinds",
    "FileKind",
    "OpenFile",
    "Operation",
    "Reader",
    "Row",
    "Stamps",
    "SteadyClock",
    "Writer",
    "WriterLock",
    "program_version",
    "time_text",
    "utc_now",
]
