"""Reading a driver file (TOML): every key is known, every pattern is held against samples, every fault has its line.

``load`` returns a ``Description`` or raises the first problem; ``problems`` returns all of them: that is what ``station
driver lint`` prints. ``drivers/*.toml`` beside this file are two worked examples.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from firmware_tools.provisioning import Locks
from station.config.section import Document, Section, nearest, parse
from station.devices.description import (
    BYTE_FIELDS,
    BYTES,
    PROMISED,
    TOLD,
    VERBS,
    ChainForm,
    Description,
    Exchange,
    Form,
    ProofForm,
    Refusal,
    Sync,
)
from station.devices.patterns import PATTERN_LIMIT, Pattern
from station.errors import ConfigError

SIZE_LIMIT: Final = 65536
"""Bytes of a driver file."""

SEND_LIMIT: Final = 4096
"""Characters of a command."""

MAX_SECONDS: Final = 300
MAX_PIECE: Final = 4096

LINE_ENDS: Final = {"CR": b"\r", "LF": b"\n", "CRLF": b"\r\n"}

NEVER_THE_END: Final = (
    "MIHVMIGCAgEAMB4xHDAaBgNVBAMME0U4RjEtN0MwQS0xMUQyLTkzQjYw",
    "3081d530818202010030",
    "-----BEGIN CERTIFICATE REQUEST-----",
    "-----END CERTIFICATE REQUEST-----",
    "I (317) cpu_start: Starting scheduler on PRO CPU.",
)
"""Lines that no answer ends with. The first newline of a PEM is not its end."""

FIXABLE: Final = frozenset({"model", "firmware_version"})
"""What a file may say in the place of the board."""

_ANYTHING: Final = "(?s:.*)"


def load(path: Path) -> Description:
    """Read a driver file.

    Raises:
        ConfigError: the first of its problems.
    """
    description, found = _read_file(path)
    if found or description is None:
        raise found[0]
    return description


def problems(path: Path) -> list[ConfigError]:
    """Return everything that is wrong with a driver file, in the order of its lines."""
    return _read_file(path)[1]


def _read_file(path: Path) -> tuple[Description | None, list[ConfigError]]:
    too_long = ConfigError(f"{path} has more than {SIZE_LIMIT} bytes; that is no driver file", path=path)
    try:
        with path.open("rb") as file:
            content = file.read(SIZE_LIMIT + 1)
        if len(content) > SIZE_LIMIT:
            return None, [too_long]
        document = parse(content.decode(), name=str(path))
    except OSError as error:
        return None, [ConfigError(f"can't read driver file {path}: {error.strerror}", path=path)]
    except UnicodeDecodeError:
        return None, [ConfigError(f"{path} is not text in UTF-8; that is no driver file", path=path)]
    except ConfigError as error:
        return None, [error]
    description = _Reader(document).read(path.stem)
    return description, document.problems


class _Reader:
    """One file."""

    def __init__(self, document: Document) -> None:
        self._top = document.top
        self._done = Pattern(_ANYTHING)

    def read(self, name: str) -> Description:
        """Read all of it; what is wrong is collected in the document."""
        top = self._top
        about = top.text("about", example='"the factory shell of the widget, firmware 1.x"', limit=120)
        console = top.section("console", example='line_end = "LF" and done = "ok"')
        line_end = self._one_of(console, "line_end", list(LINE_ENDS), "CRLF")
        done = self._pattern(console, "done", console.text("done", example="'OK'", limit=PATTERN_LIMIT))
        if done is not None:
            self._done = done
            self._check_end(console, "done", done)
        prompt = self._pattern(console, "prompt", console.text("prompt", "", limit=PATTERN_LIMIT))
        logs = self._patterns(console, "logs", example=r"['^\[\d+\] ']")
        limit = console.integer("limit", 16, SEND_LIMIT, default=128)
        console.close()
        sync = self._sync()
        chain = self._chain()
        exchanges = {verb: tuple(self._exchange(section, verb) for section in top.sections(verb)) for verb in VERBS}
        description = Description(
            name=name,
            about=about,
            line_end=LINE_ENDS.get(line_end, b"\n"),
            prompt=prompt,
            logs=logs,
            limit=limit,
            sync=sync,
            exchanges={verb: found for verb, found in exchanges.items() if found},
            forms=self._forms(),
            errors=tuple(self._error(section) for section in top.sections("error")),
            fixed=self._fixed(),
            chain=chain,
            proof=self._proof(),
            locks=self._locks(),
            new_key_each_time=top.flag("new_key_each_time", default=False),
        )
        self._check_whole(description)
        top.close()
        return description

    # Parts.

    def _sync(self) -> Sync | None:
        if not self._top.has("sync"):
            return None
        section = self._top.table("sync")
        sync = Sync(
            send=section.text("send", example='"{nonce}"', limit=SEND_LIMIT),
            done=section.text("done", example="'{nonce}: unknown command'", limit=PATTERN_LIMIT),
        )
        for key, value in (("send", sync.send), ("done", sync.done)):
            if value and "{nonce}" not in value:
                section.complain(
                    key, f"'{key}' in [sync] has no {{nonce}}; without it an old answer looks like a new one"
                )
        self._pattern(section, "done", sync.done.replace("{nonce}", "0" * 16))
        section.close()
        return sync

    def _exchange(self, section: Section, verb: str) -> Exchange:
        own = section.text("done", "", limit=PATTERN_LIMIT)
        done = self._pattern(section, "done", own) or self._done
        if own:
            self._check_end(section, "done", done)
        rows = section.table("rows")
        found = [(name, self._pattern(rows, name, rows.text(name, limit=PATTERN_LIMIT))) for name in rows.names()]
        exchange = Exchange(
            send=section.text("send", example='"id"', limit=SEND_LIMIT),
            done=done,
            answer=self._patterns(section, "answer", example="['id=(?P<hardware_id>[0-9A-F-]+)']"),
            rows=tuple((name, pattern) for name, pattern in found if pattern is not None),
            pem=section.text("pem", ""),
            seconds=float(section.integer("seconds", 1, MAX_SECONDS, default=2)),
            again=section.flag("again", default=verb != "install"),
        )
        section.close()
        self._check_send(section, exchange, PROMISED[verb])
        self._check_told(section, exchange, verb)
        return exchange

    def _error(self, section: Section) -> Refusal:
        line = self._pattern(section, "line", section.text("line", example="'error 7'", limit=PATTERN_LIMIT))
        code = section.text("code", "device.refused")
        if code and not code.startswith("device."):
            section.complain("code", f"'{code}' does not begin with 'device.', as the codes of all boards do")
        refusal = Refusal(
            line=line or self._done,
            code=code,
            about=section.text("about", "the board refused", limit=200),
            operator=section.text("operator", "Put the board into the red bin.", limit=200),
        )
        section.close()
        return refusal

    def _forms(self) -> dict[str, Form]:
        section = self._top.table("forms")
        forms = {}
        for name in section.names():
            word = self._one_of(section, name, [form.value for form in Form])
            if name not in BYTE_FIELDS:
                section.complain(name, f"'{name}' is not told in bytes; {nearest(name, sorted(BYTE_FIELDS))}")
            elif word:
                forms[name] = Form(word)
        return forms

    def _fixed(self) -> dict[str, str]:
        section = self._top.table("fixed")
        fixed = {name: section.text(name, limit=32) for name in section.names()}
        for name in fixed.keys() - FIXABLE:
            section.complain(name, f"'{name}' can't be fixed: each board has its own; {nearest(name, FIXABLE)}")
        return fixed

    def _chain(self) -> ChainForm:
        section = self._top.table("chain")
        form = self._one_of(section, "form", ["der", "pem"], "der")
        chain = ChainForm(
            is_pem=form == "pem",
            leaf_only=section.flag("leaf_only", default=False),
            zero=section.flag("zero", default=False),
            piece=section.integer("piece", 1, MAX_PIECE, default=64),
        )
        section.close()
        return chain

    def _proof(self) -> ProofForm:
        section = self._top.table("proof")
        by_csr = section.flag("by_csr", default=False)
        example = '["text:widget proof", "challenge", "leaf_sha256"]'
        parts = section.texts("signs", example=example) if section.has("signs") else []
        signs = [self._part(section, part) for part in parts]
        form = self._one_of(section, "signature", ["der", "raw"], "der")
        section.close()
        if self._top.has("prove") and not by_csr:
            for needed in ("challenge", "leaf_sha256"):
                if needed not in signs:
                    section.complain(
                        "signs",
                        f"'signs' in [proof] has no '{needed}'; a signature without it can be an old one, or one for"
                        " another certificate",
                    )
        return ProofForm(by_csr=by_csr, signs=tuple(signs), is_raw=form == "raw")

    def _part(self, section: Section, part: str) -> bytes | str:
        if part in {"challenge", "leaf_sha256"}:
            return part
        kind, _, rest = part.partition(":")
        try:
            if kind == "text" and rest:
                return rest.encode()
            if kind == "hex" and rest:
                return bytes.fromhex(rest)
        except ValueError:
            pass
        section.complain("signs", f'\'{part}\' is no part; write "challenge", "leaf_sha256", "text:…" or "hex:…"')
        return b""

    def _locks(self) -> dict[str, str]:
        section = self._top.table("locks")
        ours = [lock.name.lower() for lock in Locks if lock.name]
        locks = {name: section.text(name) for name in section.names()}
        for name in locks.keys() - set(ours):
            section.complain(name, f"there is no lock '{name}'; {nearest(name, ours)}")
        return locks

    # Values.

    def _one_of(self, section: Section, key: str, words: Iterable[str], default: str | None = None) -> str:
        known = list(words)
        word = section.text(key, default, example=f'"{known[0]}"')
        if word and word not in known:
            section.complain(key, f"'{word}' is no {key}; {nearest(word, known)}")
            return default or ""
        return word

    def _patterns(self, section: Section, key: str, *, example: str) -> tuple[Pattern, ...]:
        if not section.has(key):
            return ()
        found = (self._pattern(section, key, text) for text in section.texts(key, example=example))
        return tuple(pattern for pattern in found if pattern is not None)

    def _pattern(self, section: Section, key: str, text: str) -> Pattern | None:
        if not text:
            return None
        if len(text) > PATTERN_LIMIT:
            section.complain(key, f"a pattern of {len(text)} characters; at most {PATTERN_LIMIT}")
            return None
        try:
            return Pattern(text)
        except ConfigError as error:
            section.complain(key, f"{error}; it has to match in linear time, without looking around or back")
            return None

    # Checks.

    def _check_end(self, section: Section, key: str, done: Pattern) -> None:
        for line in NEVER_THE_END:
            if done.whole(line) is not None:
                section.complain(
                    key, f"'{done.text}' would end an answer at the line '{line[:40]}'; it has to be the last line only"
                )
                return

    def _check_send(self, section: Section, exchange: Exchange, promised: frozenset[str]) -> None:
        try:
            placeholders = exchange.placeholders
        except ValueError:
            section.complain("send", "a curly bracket in 'send' is left open; write {{ for a bracket itself")
            return
        for name, form in placeholders:
            if name not in promised:
                section.complain("send", f"there is no {{{name}}} here; {nearest(name, sorted(promised))}")
            elif name in BYTES and form not in {known.value for known in Form}:
                section.complain("send", f"{{{name}}} are bytes; say how to write them: {{{name}:hex}}")
            elif name not in BYTES and form:
                section.complain("send", f"{{{name}}} is text; write it without ':{form}'")

    def _check_told(self, section: Section, exchange: Exchange, verb: str) -> None:
        told = {group for pattern in exchange.answer for group in pattern.groups}
        told |= {name for name, _ in exchange.rows} | ({exchange.pem} if exchange.pem else set())
        for name in sorted(told - TOLD[verb]):
            known = sorted(TOLD[verb])
            advice = nearest(name, known) if known else "there is nothing to tell"
            section.complain("", f"[[{verb}]] tells '{name}', which nobody asks for there; {advice}")

    def _check_whole(self, description: Description) -> None:
        """Complain about what is wrong between the sections."""
        top = self._top
        told = {verb: _told_by(description.of(verb)) for verb in VERBS}
        for verb, fields in (("identify", {"hardware_id"}), ("make_key", {"csr"}), ("install", set())):
            if not description.of(verb):
                top.complain(verb, f"there is no [[{verb}]]; without it no board can be provisioned")
            for name in sorted(fields - told[verb]) if description.of(verb) else []:
                top.complain(verb, f"no answer of [[{verb}]] tells '{name}'; add (?P<{name}>…) to one")
        for name in sorted(FIXABLE - told["identify"] - description.fixed.keys()):
            top.complain("identify", f"nobody tells '{name}'; add (?P<{name}>…) to an answer, or write it in [fixed]")
        if description.of("read_back") and "chain" not in told["read_back"]:
            top.complain("read_back", "no answer of [[read_back]] tells 'chain'; add it as rows, pem or group")
        wanted = "csr" if description.proof.by_csr else "signature"
        if description.of("prove") and wanted not in told["prove"]:
            top.complain("prove", f"no answer of [[prove]] tells '{wanted}'")
        if "leaf_sha256" not in told["identify"] and not description.of("read_back"):
            top.complain("identify", "no answer tells 'leaf_sha256', and there is no [[read_back]] to find it out")
        if any(exchange.is_for_locks for exchange in description.of("lock")) and not description.locks:
            top.complain("locks", "[[lock]] has {lock}; add [locks] with what the board calls them")
        in_pem = {exchange.pem for verb in VERBS for exchange in description.of(verb)}
        for name in sorted((set().union(*told.values()) & BYTE_FIELDS) - in_pem - description.forms.keys()):
            top.complain("forms", f'\'{name}\' is told in bytes; add to [forms]: {name} = "hex", or "base64"')
        self._check_limit(description)

    def _check_limit(self, description: Description) -> None:
        sizes = {"piece": description.chain.piece, "chain_sha256": 32, "leaf_sha256": 32, "challenge": 32}
        values: dict[str, object] = {name: bytes(size) for name, size in sizes.items()}
        values |= {"hardware_id": "", "lock": "debug", "nonce": "0" * 16, "proof_name": "0" * 64, "tag": 0}
        values |= {"offset": 4096, "chain_size": 4096, "piece_size": description.chain.piece, "chain": b""}
        for verb in VERBS:
            for index, exchange in enumerate(description.of(verb)):
                try:
                    size = len(exchange.command(values))
                except (ValueError, KeyError):
                    continue  # complained about before
                if size > description.limit:
                    self._top.sections(verb)[index].complain(
                        "send",
                        f"this command has {size} characters, and the board takes {description.limit}; make [chain]"
                        " piece smaller, or [console] limit larger if that is true",
                    )


def _told_by(exchanges: Iterable[Exchange]) -> set[str]:
    told: set[str] = set()
    for exchange in exchanges:
        told |= {group for pattern in exchange.answer for group in pattern.groups}
        told |= {name for name, _ in exchange.rows} | ({exchange.pem} if exchange.pem else set())
    return told
