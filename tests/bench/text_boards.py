"""Boards in memory that speak in lines, honest ones: what the tests of the text drivers and their assault share."""

import base64
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from station.testing import ScriptedShell

SHA = "57" * 32
"""What the widget says of its firmware."""

DOMAIN = b"provisioning-station proof v1\0"
"""What the widget signs before the challenge."""


def csr_of(key, name, encoding):
    """Return a CSR."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256()).public_bytes(encoding)
    )


class ZephyrBoard(ScriptedShell):
    """A Zephyr board with its key and one credential."""

    def __init__(self, hardware_id="e8f17c0a11d293b6", *, loads=True, line=246, room=4096):
        super().__init__(echo=True, prompt="\x1b[1;32muart:~$ \x1b[m")
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.has_key = False
        self.stored = None
        self.buffer = ""
        self.line, self.room = line, room
        self.on("hwinfo devid", f"Length: 8\nID: 0x{hardware_id}")
        self.on("posix uname -i", "widget")
        self.on("app version", "1.4.2")
        self.on("nrf_cloud_cred pubkey 42", lambda _: self._pubkey())
        self.on("nrf_cloud_cred keygen 42", lambda _: self._keygen())
        self.on("nrf_cloud_cred csr 42 CN=(.*)", lambda match: f"CSR: {self.csr(match[1])}\nCSR generation complete")
        self.on("cred list 42 SERV", lambda _: self._list())
        self.on("cred get 42 SERV BINT", lambda _: self._get())
        self.on("cred del 42 SERV", lambda _: self._del())
        self.on("cred add 42 SERV DEFAULT (BINT|STRT)", lambda match: self._add(match[1]))
        self.on("cred buf (.*)", lambda match: self._buf(match[1]))
        self.on("cred buf clear", lambda _: self._clear())
        if loads:
            self.on("cred buf load", lambda _: self._load())

    def csr(self, name):
        return base64.b64encode(csr_of(self.key, name, Encoding.DER)).decode()

    def _keygen(self):
        said = "Key already exists in sec tag 42. Use 'delete' to remove it first."
        said = said if self.has_key else "Generated device key in sec tag 42"
        self.has_key = True
        return said

    def _pubkey(self):
        if not self.has_key:
            return "Public key export failed: -2"
        point = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return f"PUBKEY: {base64.b64encode(point).decode()}\nPublic key export complete"

    def _list(self):
        if self.stored is None:
            return "0 credentials found."
        return f"42,SERV,{base64.b64encode(sha256(self.stored).digest()).decode()},0\n1 credentials found."

    def _get(self):
        if self.stored is None:
            return "There is no TLS credential with sectag 42 and type SERVER_CERT."
        text = base64.b64encode(self.stored[:-1]).decode()
        return "\n".join(text[at : at + 32] for at in range(0, len(text), 32)) + "\nCredential buffer cleared."

    def _del(self):
        self.stored = None
        return "Deleted TLS credential with sectag 42 and type SERVER_CERT."

    def _add(self, form):
        try:
            return self._added(form)
        except ValueError:  # harmed on the way here
            return "Failed to add TLS credential."

    def _added(self, form):
        if self.stored is not None:
            return "TLS credential with sectag 42 and type SERVER_CERT already exists."
        self.stored = (base64.b64decode(self.buffer) if form == "BINT" else self.buffer.encode()) + b"\0"
        self.buffer = ""
        return f"Added TLS credential of type SERVER_CERT, sectag 42, and length {len(self.stored)} bytes."

    def _buf(self, piece):
        piece = piece[: self.line]
        if len(self.buffer) + len(piece) >= self.room:
            return "Not enough room in credential buffer for provided data. Increase the size."
        self.buffer += piece
        return f"Stored {len(piece)} bytes."

    def _clear(self):
        self.buffer = ""
        return "Credential buffer cleared."

    def _load(self):
        def take(character):
            if character != "\x03":
                self.buffer += character
                return None
            self.raw = None
            return f"Stored {len(self.buffer)} bytes.\r\n"

        self.raw = take
        return "Input credential, finish with CTRL+C."


class Widget(ScriptedShell):
    """The board of the example ``home-made.toml``, in memory."""

    def __init__(self, hardware_id="E8F1-7C0A"):
        super().__init__(line_end="\n", prompt="> ")
        self.unknown = "error 1"
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.incoming, self.announced = b"", (0, "")
        self.chain = b""
        self.closed = set()
        self.on("sign .*", "error 2")
        self.on(r"cert add .*", "error 2")
        self.on("id", f"id={hardware_id} model=widget fw=1.0.0 sha={SHA}\n* temp 23.4 C\nok")
        self.on("state", lambda _: f"state=blank, leaf={self._leaf() or 'none'}\nok")
        self.on("csr", lambda _: f"{self.csr()}ok")
        self.on(r"cert begin (\d{1,5}) (.*)", lambda match: self._begin(int(match[1]), match[2]))
        self.on(
            r"cert add (\d{1,5}) ((?:[0-9a-f]{2})+)", lambda match: self._add(int(match[1]), bytes.fromhex(match[2]))
        )
        self.on("cert show", lambda _: self._show())
        self.on("sign ((?:[0-9a-f]{2})+)", lambda match: f"sig={self.sign(bytes.fromhex(match[1])).hex()}\nok")
        self.on("lock (debug|cert)", lambda match: self._lock(match[1]))
        self.on("locks", lambda _: f"locks={','.join(sorted(self.closed, reverse=True)) or 'none'}\nok")

    def csr(self):
        return csr_of(self.key, "x", Encoding.PEM).decode()

    def _leaf(self):
        if not self.chain:
            return ""
        size = 4 + int.from_bytes(self.chain[2:4])
        return sha256(self.chain[:size]).hexdigest()

    def _begin(self, size, digest):
        self.incoming, self.announced = b"", (size, digest)
        return "ok"

    def _add(self, offset, piece):
        self.incoming = self.incoming[:offset] + piece
        if self.announced == (len(self.incoming), sha256(self.incoming).hexdigest()):
            self.chain = self.incoming
        elif len(self.incoming) >= self.announced[0]:
            return "error 3"
        return f"have {len(self.incoming)}\nok"

    def _show(self):
        text = self.chain.hex()
        return "\n".join([*(text[at : at + 64] for at in range(0, len(text), 64)), "ok"])

    def sign(self, challenge):
        return self.key.sign(DOMAIN + challenge + bytes.fromhex(self._leaf()), ec.ECDSA(hashes.SHA256()))

    def _lock(self, name):
        self.closed.add(name)
        return "ok"
