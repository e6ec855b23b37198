"""Parts of a run by hash, for arrays of jobs that share a folder and no scheduler."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from anomalib_xray.errors import XrayError


@dataclass(frozen=True)
class Shard:
    """One of ``count`` parts of a run; ``number`` counts from 0, as an indexed job of Kubernetes does.

    >>> Shard.parse("2/8")
    Shard(number=2, count=8)
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Reads ``I/N``.

        Raises:
            XrayError: The text is no such pair, or I is not one of 0 to N-1.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text.strip(), re.ASCII)
        if found is None:
            raise XrayError(f"--shard {text} is no part of a run: give I/N, such as 0/8 for the first of eight.")
        number, count = int(found[1]), int(found[2])
        if number >= count:
            raise XrayError(
                f"--shard {text} is none of the shards, which count from 0: those of {count} are 0/{count} to"
                f" {count - 1}/{count}, as of an array that starts at 0."
                if count
                else f"--shard {text} divides into no shard: give I/N, such as 0/8 for the first of eight."
            )
        return cls(number, count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def holds(self, key: str) -> bool:
        """Whether what has this key belongs to the shard; each key belongs to one, on every machine the same.

        >>> [Shard(number, 3).holds("patient00001") for number in range(3)]
        [False, False, True]
        """
        digest = hashlib.sha256(key.encode(errors="surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number
