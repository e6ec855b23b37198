"""Every installed model plugin under one dotted path: ``anomalib_xray.models.<Name>``.

Importing this package imports all declared plugins and makes them known to anomalib: ``get_model("alpha_gan")``,
``list_models()``, short names such as ``AlphaGan`` and class-path dictionaries. A plugin that cannot be imported is
reported by a warning and left out.
"""

from __future__ import annotations

import anomalib.models
from anomalib.models import AnomalibModule

from anomalib_xray.data.stock_command import adapt_stock_command
from anomalib_xray.plugins import load_models

_models, _failures = load_models()
__all__ = list(_models)  # the names are known only once the plugins were found


def _register() -> None:
    """Makes the plugins known to anomalib's own look-ups.

    ``get_model`` with a class path accepts only modules named in ``ALLOWED_MODULES`` and looks short names up as
    attributes of ``anomalib.models``. Neither is a documented interface, which is why anomalib is pinned below 2.8 and
    ``tests/test_anomalib_interface.py`` tells what would break.
    """
    anomalib.models.ALLOWED_MODULES.add(__name__)
    for name, model in _models.items():
        globals()[name] = model
        if not hasattr(anomalib.models, name):
            setattr(anomalib.models, name, model)


def __getattr__(name: str) -> type[AnomalibModule]:
    reason = _failures.get(name)
    if reason is not None:
        msg = f"The model plugin {name} could not be loaded: {reason}"
    else:
        msg = f"No installed plugin offers the model {name}; there are: {', '.join(sorted(_models))}."
    raise AttributeError(msg)


_register()
adapt_stock_command()
