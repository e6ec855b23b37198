"""JSON, YAML and CSV files of this package; :mod:`anomalib_xray.io.tables` reads tables of other programs.

Any fault of a file is one sentence that names it, an :class:`XrayError`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomalib_xray.errors import XrayError
from anomalib_xray.io.paths import read_bytes, unescaped
from anomalib_xray.io.write import write_atomically

if TYPE_CHECKING:
    import pandas as pd

MAX_TEXT_BYTES = 400_000_000


def read_text(path: Path, *, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Read a text file in UTF-8, with or without a byte order mark."""
    try:
        return read_bytes(path, max_bytes=max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise XrayError(f"{path} is no text in UTF-8; save it in UTF-8.") from None


def read_json(path: Path, *, max_bytes: int = MAX_TEXT_BYTES) -> Any:
    """Read a JSON file."""
    try:
        return json.loads(read_text(path, max_bytes=max_bytes))
    except (ValueError, RecursionError) as error:
        raise XrayError(f"{path} is no JSON file: {str(error).splitlines()[0]}.") from error


def read_yaml(
    path: Path, keys: Collection[str] | None = None, *, advice: str = "name a file such as configs/cae.yaml"
) -> dict[str, Any]:
    """Read a YAML file of settings, by name.

    Args:
        path: The file.
        keys: Settings that are allowed at its top; any by default.
        advice: Advice for a file that cannot be read, which ends the message.
    """
    content = load_yaml(path, advice=advice)
    if not isinstance(content, dict):
        raise XrayError(f"{path} holds no settings.")
    if keys is not None:
        check_keys(content, keys, str(path))
    return content


def load_yaml(path: Path, *, advice: str, max_bytes: int = MAX_TEXT_BYTES) -> Any:
    """Read a YAML file of any content; ``advice`` as of :func:`read_yaml`."""
    import yaml

    try:
        return yaml.safe_load(read_text(path, max_bytes=max_bytes))
    except XrayError as error:
        if isinstance(error.__cause__, OSError):
            raise XrayError(f"{path} cannot be read ({error.__cause__.strerror}); {advice}.") from error
        raise
    except yaml.YAMLError as error:
        raise XrayError(f"{path} is no YAML file: {str(error).splitlines()[0]}.") from error


def check_keys(content: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Refuse settings that are not ``known``; ``where`` is the place in the message.

    >>> check_keys({"sede": 42}, {"seed", "size"}, "grid.yaml")
    Traceback (most recent call last):
    anomalib_xray.errors.XrayError: grid.yaml has the unknown setting sede; there are seed, size.
    """
    unknown = sorted(set(map(str, content)) - set(known))
    if unknown:
        raise XrayError(f"{where} has the unknown setting {unknown[0]}; there are {', '.join(sorted(known))}.")


def read_csv(path: Path, columns: Collection[str] | None = None) -> list[dict[str, str]]:
    """Read a table that :func:`write_csv` wrote, each cell as it was written, as a dictionary per row.

    It must have the given ``columns``, and others are left out; all are read by default.
    """
    lines = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    limit = csv.field_size_limit(MAX_TEXT_BYTES)  # the plans that a manifest holds may be long
    try:
        names = [name for name in lines.fieldnames or () if columns is None or name in columns]
        if missing := [name for name in columns or () if name not in names]:
            raise XrayError(f"{path} has no column {', '.join(missing)}.")
        return [{name: unescaped(row[name] or "") for name in names} for row in lines]
    except csv.Error as error:
        raise XrayError(f"{path} cannot be read as a CSV table: {error} (line {lines.line_num + 1}).") from error
    finally:
        csv.field_size_limit(limit)


def read_frame(path: Path, needed: Collection[str], *, text: Collection[str], advice: str) -> pd.DataFrame:
    """Read a table that this package wrote.

    Args:
        path: The file.
        needed: Columns that it must have.
        text: Columns whose cells stay as they were written; in others an empty cell is a missing number.
        advice: Advice for an unusable file, which ends the message.
    """
    import pandas as pd

    try:
        content = path.read_bytes()
        numbers = {str(name) for name in pd.read_csv(io.BytesIO(content), nrows=0)} - set(text)
        table = pd.read_csv(
            io.BytesIO(content),
            dtype=dict.fromkeys(text, str),
            keep_default_na=False,
            na_values={name: ["", "nan"] for name in numbers},
        )
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        reason = " ".join(str(error).split())
        raise XrayError(f"{path} cannot be read as a CSV table: {reason}; {advice}.") from error
    if lacking := [column for column in needed if column not in table]:
        raise XrayError(f"{path} has no column {', '.join(lacking)}; {advice}.")
    if b"\\u" not in content:  # most tables have no escape, and a look at each cell takes longer than reading them
        return table
    return table.assign(**{name: table[name].map(unescaped) for name in text if name in table})


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    r"""A table as text; cells that a row lacks are empty.

    >>> csv_text(["image", "score"], [{"image": "a.png", "score": 0.5}, {"image": "b.png"}])
    'image,score\na.png,0.5\nb.png,\n'
    """
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue()


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table with a header, as of :func:`csv_text`."""
    write_atomically(path, csv_text(columns, rows))


def write_json(path: Path, content: Any, **options: Any) -> None:
    """Write a JSON file, indented by one blank unless ``options`` of :func:`json.dumps` say otherwise."""
    write_atomically(path, json.dumps(content, **({"indent": 1} | options)) + "\n")


def write_yaml(path: Path, content: Mapping[str, Any], *, header: str = "") -> None:
    """Write a YAML file: comments, if any, and settings in their order."""
    import yaml

    write_atomically(path, header + yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True))
