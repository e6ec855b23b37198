"""Damaged and hostile variants of valid files, to see what a reader does with them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np

Mutation: TypeAlias = Callable[[bytearray, Sequence[bytes], np.random.Generator], None]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = 512  # bytes in which the declarations of most files stand
_TELLING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def mutations(contents: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Damages valid files: flipped bits, cut ends, edited numbers and lengths, and pieces lost, doubled and mixed.

    Half of the PNG files get the checksums that fit their damaged chunks, so that a reader looks into them.

    Args:
        contents: Valid files; each variant is made of one of them, and of pieces of others.
        count: How many damaged files to make.
        seed: Decides the damage; the same seed makes the same files.

    Yields:
        One damaged file after the other; now and then one is as valid as before.
    """
    generator = np.random.default_rng(seed)
    for _file in range(count):
        content = bytearray(contents[int(generator.integers(len(contents)))])
        for _ in range(int(generator.integers(1, 4))):
            _MUTATIONS[generator.integers(len(_MUTATIONS))](content, contents, generator)
        if content.startswith(_PNG_SIGNATURE) and generator.random() < 0.5:
            _mend_checksums(content)
        yield bytes(content)


def _position(content: bytearray, generator: np.random.Generator) -> int:
    """A position, as often within the header as anywhere."""
    end = min(len(content), _HEADER) if generator.random() < 0.5 else len(content)
    return int(generator.integers(end)) if end else 0


def _flip_bits(content: bytearray, _: Sequence[bytes], generator: np.random.Generator) -> None:
    for _number in range(int(generator.integers(1, 9)) if content else 0):
        content[_position(content, generator)] ^= 1 << int(generator.integers(8))


def _cut_end(content: bytearray, _: Sequence[bytes], generator: np.random.Generator) -> None:
    del content[_position(content, generator) :]


def _edit_number(content: bytearray, _: Sequence[bytes], generator: np.random.Generator) -> None:
    size = int(generator.choice([1, 2, 4]))
    number = int(generator.choice(_TELLING)) % 256**size
    start = _position(content, generator)
    content[start : start + size] = number.to_bytes(size, "big" if generator.random() < 0.5 else "little")


def _change_number_a_little(content: bytearray, _: Sequence[bytes], generator: np.random.Generator) -> None:
    if content:
        position = _position(content, generator)
        content[position] = (content[position] + int(generator.integers(-4, 5))) % 256


def _lose_piece(content: bytearray, _: Sequence[bytes], generator: np.random.Generator) -> None:
    start = _position(content, generator)
    del content[start : start + int(generator.integers(1, 65))]


def _double_piece(content: bytearray, _: Sequence[bytes], generator: np.random.Generator) -> None:
    start = _position(content, generator)
    content[start:start] = content[start : start + int(generator.integers(1, 257))]


def _insert_noise(content: bytearray, _: Sequence[bytes], generator: np.random.Generator) -> None:
    start = _position(content, generator)
    content[start:start] = generator.bytes(int(generator.integers(1, 33)))


def _splice(content: bytearray, contents: Sequence[bytes], generator: np.random.Generator) -> None:
    other = contents[int(generator.integers(len(contents)))]
    start, length = int(generator.integers(len(other) + 1)), int(generator.integers(1, 1025))
    position = _position(content, generator)
    content[position : position + length] = other[start : start + length]


def _mend_checksums(content: bytearray) -> None:
    """Gives every chunk of a PNG the checksum of its new content."""
    position = len(_PNG_SIGNATURE)
    while position + 12 <= len(content):
        end = position + 8 + int.from_bytes(content[position : position + 4], "big")
        if end + 4 > len(content):
            return
        content[end : end + 4] = zlib.crc32(content[position + 4 : end]).to_bytes(4, "big")
        position = end + 4


_MUTATIONS: tuple[Mutation, ...] = (
    _flip_bits,
    _cut_end,
    _edit_number,
    _change_number_a_little,
    _lose_piece,
    _double_piece,
    _insert_noise,
    _splice,
)
