"""Making a CA, and what follows: renewing, crossing, backing up. ``docs/ceremony.md`` is the reader's page.

A ceremony is one TOML file that two people review: ``load_plan`` reads it, ``run_ceremony`` does it, and leaves
certificates, requests and a transcript that ``verify_transcript`` checks. Whatever fails on the way is undone as a
whole. ``init_ca`` makes a small CA without a file.

Open first: ``run.py``, which opens tokens, does the steps and undoes them. ``plan.py`` is what a file says,
``plan_file.py`` reads it; ``modes.py`` is what each mode does; ``certificates.py`` and ``lint.py`` make a CA's
certificate; ``copying.py`` takes a key from one token to another; ``transcript.py`` is what is left to be believed.

Root tokens are opened here only. This package knows nothing of journals and devices; of profiles it knows the rules.
"""

from hsm.ceremony.copying import LeftKey
from hsm.ceremony.plan import Plan, TokenChoice
from hsm.ceremony.plan_file import load as load_plan
from hsm.ceremony.quick import (
    INTERMEDIATE_FILE,
    INTERMEDIATE_LABEL,
    ROOT_FILE,
    ROOT_LABEL,
    NewCa,
    init_ca,
)
from hsm.ceremony.rehearsal import Rehearsal, prepare_rehearsal
from hsm.ceremony.run import DoneCeremony, run_ceremony, undo_killed
from hsm.ceremony.transcript import VerifiedTranscript, verify_transcript

__all__ = [
    "INTERMEDIATE_FILE",
    "INTERMEDIATE_LABEL",
    "ROOT_FILE",
    "ROOT_LABEL",
    "DoneCeremony",
    "LeftKey",
    "NewCa",
    "Plan",
    "Rehearsal",
    "TokenChoice",
    "VerifiedTranscript",
    "init_ca",
    "load_plan",
    "prepare_rehearsal",
    "run_ceremony",
    "undo_killed",
    "verify_transcript",
]
