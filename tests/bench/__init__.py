"""What the project claims, measured: ``./run bench``.

Each benchmark is one module with a function ``measure``: ``line``, ``wire``, ``issue``, ``cli``, ``faults``. It yields
``Figure`` objects; a figure with a limit that is missed makes the run fail. Figures stand beside what they are a share
of, measured in the same run: the wire, the token's raw signatures, SQLite's raw commits.

Open ``program.py`` first, then ``figures.py``. ``docs/performance.md`` says what the figures mean.
"""
