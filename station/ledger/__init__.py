"""The ledger: proof, to somebody who trusts neither the factory nor us, that the manifest was not changed afterwards.

The events of a manifest are the leaves of a Merkle tree (RFC 6962). The HSM signs its head now and then; whoever holds
a signed head, or gets a proof under one, can check it with a public key and nothing else. docs/ledger.md tells the
story. Open ``leaf.py`` first (the bytes that are hashed), then:

- pure: ``tree.py`` (RFC 6962), ``tiles.py`` (in tiles), ``note.py``, ``checkpoint.py``, ``proof.py`` (C2SP formats);
- ``ledger.py``: the tree grows, its head is signed (``store.py``: the rows; ``anchor.py``: what is kept outside);
- ``verify.py``: an offline check of a copy (with ``chain.py``, events against tree, and ``replay*.py``, rows against
  events).

Knows nothing of: boards, ports, and what the events mean to the line, except in ``replay*.py``.
"""
