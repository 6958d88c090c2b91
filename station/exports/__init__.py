"""Exports: the manifest's units in the forms that other people's systems read.

Plain tables: ``csv`` and ``jsonl``, each with one function ``export(units, target)``; and ``target``, which writes a
file whole or not at all. ``units`` says what each column means.

Parcels, for a cloud: open ``handover`` first, which puts one together and records it; ``parcel`` is the folder,
``signature`` the export key. A target is a small class with ``name``, ``naming`` and ``write(parcel, units)``: ``aws``,
``azure``, ``nrfcloud``, ``matter`` (with ``onboarding``), ``jws_manifest``, ``tables`` (with ``parquet``). ``naming``
says what a cloud calls a unit, ``leaf`` finds in a certificate what they need.

Units are taken one by one, so that memory stays flat for a million of them.

Knows nothing of: SQLite (that is ``station.manifest``), boards; and of tokens only what ``signature`` asks of ``hsm``.
"""
