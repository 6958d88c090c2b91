"""Telling by OCSP whether a certificate is still good (RFC 6960, RFC 5019).

::

    responder = OcspResponder(issuer, Signing(Responder(certificate, key), count), statuses, clock=utc_now)
    answer = await responder.answer(request)
    application = OcspApplication(responder)    # for any ASGI server

Open first ``responder.py``: from the bytes of a request to the bytes of an answer. ``request.py`` and ``response.py``
are the two formats, ``statuses.py`` asks the CA's journal, ``presigned.py`` signs ahead for static hosting, ``http.py``
is the web, ``identity.py`` how requests name an issuer.

The key is one of its own, in a token, under a certificate that says what it is for (profile ``ocsp-signer``): the CA's
key rests, and a responder on the web has nothing that could sign a certificate.

Knows nothing of: CRLs, which are made of the same rows (``hsm.revocation``).
"""

from hsm.ocsp.http import OcspApplication
from hsm.ocsp.presigned import PresignedFolder, Presigning, Progress, SignedAnswer, presign
from hsm.ocsp.request import CertId, OcspRequest
from hsm.ocsp.responder import Answer, OcspResponder, Signing
from hsm.ocsp.response import Failure, Good, Responder, Status, Unknown, Window
from hsm.ocsp.statuses import JournalStatuses, Statuses

__all__ = [
    "Answer",
    "CertId",
    "Failure",
    "Good",
    "JournalStatuses",
    "OcspApplication",
    "OcspRequest",
    "OcspResponder",
    "PresignedFolder",
    "Presigning",
    "Progress",
    "Responder",
    "SignedAnswer",
    "Signing",
    "Status",
    "Statuses",
    "Unknown",
    "Window",
    "presign",
]
