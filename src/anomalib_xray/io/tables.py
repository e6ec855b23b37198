"""Tables of any program: the reader of CSV files that users give."""

from __future__ import annotations

import csv
import io
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from anomalib_xray.errors import XrayError
from anomalib_xray.io.paths import read_bytes, unescaped

logger = logging.getLogger(__name__)

MAX_TABLE_BYTES = 400_000_000
"""Two million rows with long paths."""

_SEPARATORS = ",;\t|"
_LINES_TO_TELL_BY = 5
_EXCELS_OWN = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)  # a first line that tells Excel the separator
_UNSEEN = ("Cc", "Cf")  # categories of Unicode: control and format
_END = "\0"
_MARKS = (
    (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"),
)  # fmt: skip


NOTHING = frozenset({"", "nan", "na", "n/a", "#n/a", "<na>", "nat", "null", "none"})
"""Words of other programs, in lower case, for an empty cell."""

_NO_ID = NOTHING | {"unknown", "-", "--"}
_WHOLE = re.compile(r"^(\d+)\.0$", re.ASCII)
_ZEROS_IN_FRONT = re.compile(r"(?<!\d)0+(?=\d)")


@dataclass(frozen=True)
class Row:
    """A row of a table: the number of its first line, and its cells by column, without blanks around them."""

    line: int
    cells: dict[str, str]


def identity(value: str) -> str:
    r"""An id as ids are compared: in one Unicode form (NFC), without invisible letters and spare blanks.

    >>> identity(" Patient\u200b   7 ")
    'Patient 7'
    """
    if not (value.isascii() and value.isprintable()):
        letters = unicodedata.normalize("NFC", value)
        value = "".join(letter for letter in letters if letter.isspace() or unicodedata.category(letter) not in _UNSEEN)
    return " ".join(value.split())


def patient_ids(rows: Sequence[Row], column: str, path: Path) -> list[str]:
    """The patients of a table, empty for a cell without one; a warning names ids that look alike or stand for none.

    Ids are as of :func:`identity`; whole numbers that a program wrote with a fraction (``7.0``) are without it.
    """
    ids = [_WHOLE.sub(r"\1", identity(row.cells[column])) for row in rows]
    unnamed = [row for row, patient in zip(rows, ids, strict=True) if patient and patient.lower() in _NO_ID]
    if unnamed:
        logger.warning(
            "%s: cells of %s that stand for no patient are taken as empty: %d (first line %d, %r).",
            path, column, len(unnamed), unnamed[0].line, unnamed[0].cells[column],
        )  # fmt: skip
    alike: dict[str, str] = {}
    pairs = {}
    for patient in ids:
        earlier = alike.setdefault(_ZEROS_IN_FRONT.sub("", unicodedata.normalize("NFKC", patient).casefold()), patient)
        if earlier != patient:
            pairs[patient] = earlier
    if pairs:
        patient, earlier = next(iter(pairs.items()))
        logger.warning(
            "%s: ids in %s that differ only in case, width or zeros: %d (first %s and %s); write one patient alike.",
            path, column, len(pairs), earlier, patient,
        )  # fmt: skip
    return ["" if patient.lower() in _NO_ID else patient for patient in ids]


def read_table(path: Path, columns: Sequence[str] | None = None, *, max_bytes: int = MAX_TABLE_BYTES) -> list[Row]:
    r"""Read a table of comma- or otherwise separated values.

    The separator (comma, semicolon, tab or ``|``) is the one that the first lines have most of. The encoding is UTF-8,
    UTF-16 or UTF-32, or else Windows-1252, which a warning says. Names of columns have one Unicode form. Bytes of file
    names that are not UTF-8 are read back from the escapes that this package writes (``\udcf6``). Blank rows are passed
    over, which a warning counts.

    Args:
        path: The file.
        columns: Names of its columns if it has no header.
        max_bytes: Larger files are refused.

    Returns:
        The rows. Each has all columns.

    Raises:
        XrayError: The file cannot be read, is no such table, has two columns of one name, or has a row with more cells
            than columns; the message names the line.
    """
    text = _text(path, read_bytes(path, max_bytes=max_bytes))
    lines = list(_lines(path, text))
    while lines and not any(lines[0][1]):
        lines.pop(0)
    header = list(columns or ())
    if columns is None and lines:
        header = [identity(name) for name in lines.pop(0)[1]]
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    if twice:
        raise XrayError(f"{path} has two columns {twice[0]!r}; rename or remove one.")
    rows, blank = [], []
    for line, cells in lines:
        if not any(cells):
            blank.append(line)
            continue
        if any(cells[len(header) :]):
            raise XrayError(
                f"line {line} of {path} has {len(cells)} cells, but there are {len(header)} columns; put text that"
                " holds the separator into quotes."
            )
        rows.append(Row(line, dict(zip(header, cells + [""] * (len(header) - len(cells)), strict=False))))
    if blank:
        logger.warning("%s: passed over blank rows: %d (first line %d).", path, len(blank), blank[0])
    return rows


def check_columns(rows: Sequence[Row], path: Path, columns: Sequence[str], advice: str) -> None:
    """Refuse a table that lacks a column or has no row; ``advice``, on how to mend it, ends the message."""
    if not rows:
        raise XrayError(f"{path} has no row below its header; {advice}.")
    lacking = [column for column in columns if column not in rows[0].cells]
    if lacking:
        has = ", ".join(filter(None, rows[0].cells)) or "none"
        raise XrayError(f"{path} has no column {', '.join(lacking)}, only {has}; {advice}.")


def _text(path: Path, content: bytes) -> str:
    """The text of a file."""
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "")
    if not encoding:
        # UTF-16 without a mark has a zero in each letter of a header: behind it, or before it.
        encoding = {b"\0": "utf-16-be"}.get(content[:1], "utf-16-le" if content[1:2] == b"\0" else "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        if encoding != "utf-8":
            raise XrayError(f"{path} is no whole {encoding.upper()} text; save it as CSV in UTF-8.") from None
        try:
            text = content.decode("cp1252")
        except UnicodeDecodeError:
            raise XrayError(f"{path} is no text in UTF-8; save it as CSV in UTF-8.") from None
        logger.warning("%s is not in UTF-8 and is read as Windows-1252; if letters are wrong, save it in UTF-8.", path)
    if "\0" in text:
        raise XrayError(f"{path} is no table of text; save it as CSV in UTF-8.")
    # Files that were put together have such a mark at each of their beginnings.
    return text.replace("\ufeff", "")


def _lines(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line, the header's too."""
    chosen = _EXCELS_OWN.match(text)
    first = text[chosen.end() :] if chosen else text
    separator = chosen[1] if chosen else _separator(first)
    # A row of its own at the end, unless a quote that was never closed swallows it.
    last = "" if first.endswith(("\n", "\r")) else "\n"
    read: list[str] = []
    joined: list[int] = []
    marked = io.StringIO(f"{first}{last}{_END}", newline="")
    lines = csv.reader(_noted(marked, read), delimiter=separator, skipinitialspace=True)
    before = 1 if chosen else 0
    line = before + 1
    try:
        for cells in lines:
            if cells == [_END]:
                if joined:
                    logger.warning(
                        "%s: quotes that join lines which look like rows: %d (first from line %d on); check them.",
                        path, len(joined), joined[0],
                    )  # fmt: skip
                return
            if any(_END in cell for cell in cells):
                break
            if len(read) > 1 and _check_quotes(path, line, read, separator):
                joined.append(line)
            read.clear()
            yield line, [unescaped(cell).strip() for cell in cells]
            line = before + lines.line_num + 1
        problem = "a quote is never closed"
    except csv.Error as error:
        problem = str(error)
    raise XrayError(f"{path} cannot be read as a table from line {line} on: {problem}.")


def _noted(lines: Iterable[str], read: list[str]) -> Iterator[str]:
    """The lines; each is added to ``read`` as it is read."""
    for line in lines:
        read.append(line)
        yield line


def _check_quotes(path: Path, line: int, lines: list[str], separator: str) -> bool:
    """Refuse a row of several lines that a stray quote joins; returns whether one may do so all the same."""
    behind = re.compile(rf'"[^\S\r\n]+(?=[{re.escape(separator)}\r\n]|$)')
    row = [behind.sub('"', part) for part in lines]
    try:
        cells = next(csv.reader(row, delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error:
        raise XrayError(
            f"{path} cannot be read as a table from line {line} on: a quote joins it with the next {len(lines) - 1}"
            " lines and is closed in the middle of a cell; remove it."
        ) from None
    # Each line alone would be a whole row.
    return len(cells) > 1 and all(part.count(separator) == len(cells) - 1 for part in lines[1:])


def _separator(text: str) -> str:
    """The separator that each of the first lines has most of, outside of quotes; the header decides between equals."""
    found = (match[0] for match in islice(re.finditer(r"[^\r\n]+", text), _LINES_TO_TELL_BY))
    lines = [re.sub(r'"[^"]*"', "", line) for line in found]
    counts = {separator: [line.count(separator) for line in lines] or [0] for separator in _SEPARATORS}
    return max(counts, key=lambda separator: (min(counts[separator]), counts[separator][0]))
