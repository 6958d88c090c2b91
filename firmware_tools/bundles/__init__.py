"""Firmware bundles: one file with all that a board of a product gets, signed by a release key.

Open first ``bundle.py``: what a bundle is, how one is packed, read and verified.

- ``manifest.py``: what its member ``bundle.toml`` says, as types. ``manifest_toml.py``: how that is read and
  written; and the plan, which is the same as a person writes it. ``toml_table.py``: a table of it, read strictly.
- ``release_signature.py``: its member ``signature.json``, who signed it.
- ``archive.py``: the zip around them, read in bounded memory.
- ``flasher_options.py``: what a bundle may ask of each flasher.

Knows nothing of: ports and boards (``firmware_tools.flashers`` brings a bundle onto one), and where keys are kept.
"""
