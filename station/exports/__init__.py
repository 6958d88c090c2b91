"""Exports: the manifest's units in the forms that other people's systems read.

Lives here: ``csv`` and ``jsonl``, each with one function ``export(units, target)``; and ``target``, which writes a file
whole or not at all. Open ``units`` first: it says what each column means. Units are taken one by one, so that memory
stays flat for a million of them.

Knows nothing of: SQLite (that is ``station.manifest``), tokens, boards.
"""
