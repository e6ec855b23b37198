"""The command that lists the installed plugins."""

from __future__ import annotations


def plugins() -> int:
    """Lists the installed model plugins and says which of them work.

    Returns:
        Exit status: 0, 1 if a plugin does not work.
    """
    import warnings
    from importlib.util import find_spec

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from anomalib_xray.plugins import check_models, find_plugins

    console = Console()
    can_import = find_spec("anomalib") is not None
    if can_import:
        with console.status("Importing the plugins"), warnings.catch_warnings(action="ignore"):
            checked = list(check_models())
    else:
        checked = [(plugin, "not checked") for plugin in find_plugins()]
    table = Table(title="Model plugins")
    for column in ("name", "target", "distribution", "status"):
        table.add_column(column, overflow="fold")
    for plugin, reason in checked:
        # Text, because a reason may hold brackets, which rich would take for its markup.
        table.add_row(*map(Text, (plugin.name, plugin.target, plugin.distribution, reason or "ok")))
    console.print(table)
    if not can_import:
        console.print("Models need anomalib: pip install 'anomalib-xray[train]' installs it.", markup=False)
        return 0
    return 1 if any(reason for _, reason in checked) else 0
