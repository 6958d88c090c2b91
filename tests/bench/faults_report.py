"""What is known of a run of kills, kept in a file so that an interrupted one can go on."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from bench.judge import Verdict


@dataclass
class BlockReport:
    """What a block of kills gave."""

    hit: Counter[str] = field(default_factory=Counter)
    """Kills, by victim."""
    caught: Counter[str] = field(default_factory=Counter)
    """In which step boards were when a station died."""
    verdict: Verdict = field(default_factory=Verdict)


@dataclass
class Report:
    """All blocks of a run."""

    path: Path
    seed: int
    blocks: list[BlockReport] = field(default_factory=list)

    @classmethod
    def resumed(cls, path: Path, *, wanted: int, seed: int) -> Self:
        """Go on with the run in a file, if there is one that wanted as many kills and has not had them; or begin anew.

        Args:
            path: the file.
            wanted: kills.
            seed: of a run that begins.
        """
        try:
            head, *lines = path.read_text().splitlines()
            found = cls(path, json.loads(head)["seed"], [_block(line) for line in lines])
            if json.loads(head)["wanted"] == wanted and found.kills < wanted:
                return found
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass  # none, or half a line of a run that was killed: its blocks are done again
        path.write_text(json.dumps({"seed": seed, "wanted": wanted}) + "\n")
        return cls(path, seed)

    def add(self, block: BlockReport) -> None:
        """Add a finished block, in the file too."""
        self.blocks.append(block)
        with self.path.open("a") as file:
            file.write(json.dumps({**vars(block), "verdict": vars(block.verdict)}) + "\n")

    @property
    def kills(self) -> int:
        """How many there were."""
        return self.hit.total()

    @property
    def hit(self) -> Counter[str]:
        """Kills, by victim."""
        return sum((block.hit for block in self.blocks), Counter[str]())

    @property
    def caught(self) -> Counter[str]:
        """In which step boards were when a station died."""
        return sum((block.caught for block in self.blocks), Counter[str]())

    @property
    def verdict(self) -> Verdict:
        """What the judge found in all of them."""
        verdict = Verdict()
        for block in self.blocks:
            verdict.add(block.verdict)
        return verdict


def _block(line: str) -> BlockReport:
    content = json.loads(line)
    return BlockReport(Counter(content["hit"]), Counter(content["caught"]), Verdict(**content["verdict"]))
