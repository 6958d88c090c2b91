"""Imports: what comes back from those who got an export, and lists of identities that others gave out.

``receipts.py`` reads what a cloud made of the units it got, in the form in which that cloud says it; ``matching.py``
finds these units; ``lists.py`` reads serials, MAC addresses and IMEIs as CSV. All is read before anything is written,
and each row that can't be taken is named; what is written is then written whole.

Knows nothing of: tokens, and boards.
"""
