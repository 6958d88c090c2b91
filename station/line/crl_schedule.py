"""Revocation lists on a schedule, beside the line.

The daemon looks once a minute, and at once when it starts, whether a list is due: its time has come, or something was
revoked that no published list tells yet. What is due is made and published (``hsm.revocation``) in a thread of its own;
the boards don't wait. The CA's journal is open only meanwhile, so that ``station ca revoke`` can write to it. A failure
is told, and tried again at the next look; lists are valid longer than they need to be (``overlap``), so there is time.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from hsm import Authority, HsmError
from hsm.journal import CaJournal, JournalError, JournalReader
from hsm.revocation import CrlFolder, CrlIssuer, Made, Scope, check_published, due, publish, scopes, shard_of
from station.config import Config, CrlSection
from station.crl_places import crl_places
from station.errors import StationError
from station.events import Notice, Watch
from station.manifest import ManifestReader
from station.revoking import Mark, mark, pending, settle

LOOK_SECONDS: Final = 60.0
"""How late a revocation may be noticed."""

SUBJECT: Final = "crl"


def order_shards(config: Config) -> set[str]:
    """Return the shards that units' certificates may name: one an order; none before the first run.

    Raises:
        ManifestError: the manifest can't be read.
    """
    if not config.station.manifest.exists():
        return {shard_of(config.order.name)}
    with ManifestReader(config.station.manifest) as reader:
        return {shard_of(name) for name in (*reader.order_names(), config.order.name)}


class CrlSchedule:
    """Publishes what is due, for as long as it runs."""

    def __init__(  # noqa: PLR0913 - what it works with
        self,
        config: Config,
        section: CrlSection,
        authorities: Sequence[Authority],
        watch: Watch,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """Begin with nothing published.

        Args:
            config: names journal and manifest.
            section: where and how often.
            authorities: who sign: that of ``[ca]``, and of each ``[[issuer]]``.
            watch: is told what was published, and what failed.
            now: the time.
            look_seconds: from one look to the next.
        """
        self._config = config
        keys = {authority.issuer: authority.key for authority in authorities}
        self._places = [
            (place.signing(keys[place.issuer]), place.folder)
            for place in crl_places(config, section.directory)
            if place.issuer in keys
        ]
        self._watch = watch
        self._now = now
        self._look_seconds = look_seconds
        self._failure = ""
        self._settled: Mark | None = None

    async def run(self) -> None:
        """Look, publish, wait; until it is cancelled. What is being published then is finished first."""
        while True:
            await self.look()
            await asyncio.sleep(self._look_seconds)

    async def look(self) -> None:
        """Publish what is due. What fails is told and not raised: a line does not stand still for a list."""
        work = asyncio.ensure_future(asyncio.to_thread(self._publish_due))
        try:
            await asyncio.wait([work])
        finally:
            if not work.done():  # the line stops: what is being made is finished first
                await asyncio.wait([work])
            self._tell_outcome(work)

    def _tell_outcome(self, work: "asyncio.Future[list[Made]]") -> None:
        try:
            made = work.result()
        except (HsmError, StationError) as error:
            self._tell_failure(error.code, str(error))
        except OSError as error:
            self._tell_failure("crl.folder", f"{error.filename}: {error.strerror}")
        else:
            if made:
                names = ", ".join(f"{one.scope.file} (number {one.crl.terms.number})" for one in made)
                self._tell(f"published {names}")
            elif self._failure:
                self._tell("nothing is due any more")
            self._failure = ""

    def _publish_due(self) -> list[Made]:
        journal = self._config.ca.journal
        if journal.exists() and not self._is_anything_due(journal):
            return []
        made = []
        with CaJournal.open(journal) as opened:
            settle(self._config, opened)
            for issuer, folder in self._places:
                with opened.reader() as reader:
                    wanted = self._due(reader, issuer, folder)
                if wanted:
                    made += publish(opened, issuer, folder, wanted, self._now())
        return made

    def _is_anything_due(self, journal: Path) -> bool:
        """Look without keeping others from writing."""
        try:
            with JournalReader(journal) as reader:
                for issuer, folder in self._places:  # an older copy is told, also while nothing is due
                    check_published(reader, issuer.certificate, folder)
                return self._is_anything_pending(reader) or any(
                    self._due(reader, issuer, folder) for issuer, folder in self._places
                )
        except JournalError as error:
            if error.code != "journal.older":  # an older program's; whoever writes brings it up to date
                raise
            return True

    def _is_anything_pending(self, reader: JournalReader) -> bool:
        """Look at all acts only if one was added since nothing was pending: there may be very many."""
        now = mark(self._config, reader)
        if now == self._settled:
            return False
        self._settled = None if (found := bool(pending(self._config, reader))) else now
        return found

    def _due(self, reader: JournalReader, issuer: CrlIssuer, folder: CrlFolder) -> list[Scope]:
        return due(reader, issuer, scopes(reader, issuer, order_shards(self._config)), self._now(), folder)

    def _tell_failure(self, code: str, sentence: str) -> None:
        if sentence != self._failure:  # once, not once a minute
            self._failure = sentence
            self._tell(f"{sentence}; tried again every {self._look_seconds:.0f} s, the line goes on", code)

    def _tell(self, sentence: str, code: str = "") -> None:
        self._watch(Notice(SUBJECT, sentence, code, time.monotonic()))
