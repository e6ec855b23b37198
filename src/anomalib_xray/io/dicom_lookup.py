"""Lookup tables as DICOM stores them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pydicom import Dataset

_MOST_ENTRIES = 65536


@dataclass(frozen=True, eq=False)
class LookupTable:
    """A lookup table (PS3.3, sections C.11.1.1 and C.7.6.3.1.5).

    Attributes:
        entries: What comes out, (n,).
        first: Value that the first entry is for, without a sign.
        depth: Bits of an entry, as declared.
    """

    entries: NDArray[np.float64]
    first: int
    depth: int

    def apply(self, values: NDArray[np.float64], *, signed: bool) -> NDArray[np.float64]:
        """Looks values up; those before the first entry give that one, those behind the last entry that one.

        Args:
            values: The values, of any shape.
            signed: Whether they have a sign, so that the first value may be a negative one.

        Returns:
            The entries, of the same shape.
        """
        first = self.first - _MOST_ENTRIES if signed and self.first >= _MOST_ENTRIES // 2 else self.first
        places = np.clip(np.rint(values) - first, 0, len(self.entries) - 1)
        return np.asarray(self.entries[places.astype(np.int64)], np.float64)


def lookup_table(item: Dataset, prefix: str, *, little: bool) -> LookupTable | None:
    """Reads a lookup table, whatever the depth and the packing of its entries.

    Args:
        item: Data set that holds it.
        prefix: What the keywords of its descriptor and its data begin with, e.g. ``LUT``.
        little: Whether the file is little endian.

    Returns:
        The table; None where it is missing, or its data are shorter than its descriptor says.
    """
    try:
        descriptor = _words(item[f"{prefix}Descriptor"].value, little=little)
        data = item[f"{prefix}Data"].value
        count, first, depth = (int(number) % _MOST_ENTRIES for number in descriptor)
        count = count or _MOST_ENTRIES
        entries = _entries(data, count, depth, little=little)
    except (KeyError, ValueError, TypeError, NotImplementedError, AttributeError, OverflowError):
        return None
    return None if len(entries) < count else LookupTable(entries[:count].astype(np.float64), first, depth)


def _entries(data: Any, count: int, depth: int, *, little: bool) -> NDArray[Any]:  # noqa: ANN401  # bytes or numbers
    """One entry a byte where entries of 8 bits are packed, else one a word of 16 bits."""
    if not isinstance(data, bytes):
        words = np.asarray(_words(data, little=little), np.int64) % _MOST_ENTRIES
        if depth > 8 or len(words) >= count:
            return words
        return words.astype("<u2").view(np.uint8)
    if len(data) >= 2 * count:
        return np.asarray(_words(data, little=little))
    if depth > 8:
        return np.empty(0)
    packed = np.frombuffer(data[: len(data) // 2 * 2], np.uint8)
    return packed if little else packed.reshape(-1, 2)[:, ::-1].ravel()


def _words(value: Any, *, little: bool) -> Any:  # noqa: ANN401  # whatever the file holds
    """Numbers of 16 bits, also where pydicom could not tell their kind and left bytes."""
    if isinstance(value, bytes):
        return np.frombuffer(value[: len(value) // 2 * 2], "<u2" if little else ">u2")
    return [value] if isinstance(value, int) else list(value)
