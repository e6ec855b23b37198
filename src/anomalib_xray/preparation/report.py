"""What a run did, for people."""

from __future__ import annotations

from pathlib import Path

from anomalib_xray.preparation.record import MANIFEST
from anomalib_xray.preparation.runner import Summary

_SHOWN_ERRORS = 10


def print_summary(summary: Summary, out: Path) -> None:
    """Prints how many pictures were prepared, how many carry each flag, and what went wrong.

    Args:
        summary: What was done.
        out: Folder of the prepared pictures.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if summary.flags:
        table = Table(title="Flags")
        table.add_column("flag")
        table.add_column("pictures", justify="right")
        table.add_column("share", justify="right")
        for flag, count in sorted(summary.flags.items(), key=lambda item: (-item[1], item[0])):
            table.add_row(flag, str(count), f"{count / summary.outputs:.1%}")
        console.print(table)
    for name, error in list(summary.errors.items())[:_SHOWN_ERRORS]:
        # Text, because a reason may hold brackets, which rich would take for its markup.
        console.print(Text(error if name in error else f"{name}: {error}", style="red"), soft_wrap=True)
    if len(summary.errors) > _SHOWN_ERRORS:
        console.print(f"… and {len(summary.errors) - _SHOWN_ERRORS} more, in {MANIFEST}.")
    done = summary.done
    print(
        f"{done.total()} radiographs: {done['prepared']} prepared, {done['kept']} done before, {done['failed']} failed."
        f" {summary.outputs} pictures and {MANIFEST} are in {out}."
    )
