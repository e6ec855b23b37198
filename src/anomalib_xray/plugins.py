"""Discovery of plugins through entry points.

A distribution joins by declaring an entry point in the group ``anomalib_xray.models``; nothing is registered by hand.
Finding plugins reads metadata only; importing them (and with them torch) happens in :func:`load_models`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from inspect import signature
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule

MODEL_GROUP = "anomalib_xray.models"


@dataclass(frozen=True)
class Plugin:
    """A declared plugin.

    Attributes:
        name: Name under which it is offered, e.g. ``AlphaGan``.
        target: Place of its class, e.g. ``anomalib_xray_plugins.alpha_gan:AlphaGan``.
        distribution: Distribution that declared it, with its version.
        entry_point: The entry point itself.
    """

    name: str
    target: str
    distribution: str
    entry_point: EntryPoint


def find_plugins(group: str = MODEL_GROUP) -> list[Plugin]:
    """Lists the declared plugins of a group, sorted by name, without importing them.

    >>> {plugin.name for plugin in find_plugins()} >= {"Cae", "Vae"}
    True
    """
    found = []
    for entry_point in entry_points(group=group):
        origin = f"{entry_point.dist.name} {entry_point.dist.version}" if entry_point.dist else "unknown"
        found.append(Plugin(entry_point.name, entry_point.value, origin, entry_point))
    return sorted(found, key=lambda plugin: (plugin.name, plugin.distribution))


def load_models() -> tuple[dict[str, type[AnomalibModule]], dict[str, str]]:
    """Imports every declared model plugin; one that fails never takes the others down.

    Returns:
        The class of each plugin that loaded, and the reason of each that did not, by name.
    """
    models: dict[str, type[AnomalibModule]] = {}
    failures: dict[str, str] = {}
    for plugin, reason in check_models():
        if reason is None:
            models[plugin.name] = plugin.entry_point.load()
            continue
        warnings.warn(
            f"The model plugin {plugin.name} could not be loaded: {reason} ({plugin.distribution}).", stacklevel=2
        )
        failures[plugin.name] = reason
    return models, failures


def check_models() -> Iterator[tuple[Plugin, str | None]]:
    """Imports the declared model plugins one by one.

    Yields:
        Each plugin with the reason why it cannot be used, or ``None`` if it can.
    """
    taken: dict[str, Plugin] = {}
    for plugin in find_plugins(MODEL_GROUP):
        try:
            reason = _defect(plugin.name, plugin.entry_point.load())
        except (Exception, SystemExit) as error:  # whatever a third party's import raises is that plugin's failure only
            reason = f"{type(error).__name__}: {error}"
        first = taken.setdefault(plugin.name, plugin) if reason is None else plugin
        if first is not plugin:
            reason = f"the name {plugin.name} is taken by the plugin of {first.distribution}"
        yield plugin, reason


def setting_names(owner: type) -> list[str]:
    """Lists a class's settings: its constructor's arguments, and those that it hands on to its parents'.

    >>> class Narrow(dict):
    ...     def __init__(self, width: int = 16, **settings: object) -> None: ...
    >>> setting_names(Narrow)
    ['width']
    """
    names: dict[str, None] = {}
    for parent in owner.__mro__:
        if "__init__" in vars(parent):
            parameters = list(signature(parent.__init__).parameters.values())[1:]  # type: ignore[misc]  # of a class
            names |= {one.name: None for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)}
            if all(one.kind is not one.VAR_KEYWORD for one in parameters):
                break
    return list(names)


def _defect(name: str, loaded: object) -> str | None:
    """The reason why anomalib could not find a loaded class, or ``None`` if it can."""
    import anomalib.models
    from anomalib.models import AnomalibModule

    if not isinstance(loaded, type) or not issubclass(loaded, AnomalibModule):
        return "it is not a subclass of anomalib's AnomalibModule"
    if loaded not in AnomalibModule.__subclasses__():
        return "it does not derive directly from AnomalibModule, so anomalib's get_model would not find it"
    if loaded.__name__ != name:
        return f"its class is called {loaded.__name__}, so anomalib would list it under another name"
    if getattr(anomalib.models, name, loaded) is not loaded:
        return f"anomalib has a model called {name} of its own"
    return None
