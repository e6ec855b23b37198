"""Contract that every model plugin keeps, as tests that its author runs.

pytest is needed here and nowhere else in this package: ``pip install pytest``.

Example:
    A plugin's ``tests/test_contract.py``, run by ``pytest``::

        from anomalib_xray.models import Cae
        from anomalib_xray.testing import ModelContract


        class TestCae(ModelContract):
            model = Cae
            settings = {"image_size": 64, "width": 4}
"""

import pytest

# Without it, a failed check would not show the values that it compared. Must come before the modules are imported.
pytest.register_assert_rewrite(
    *(f"{__name__}.{module}" for module in ("discovery", "scoring", "training", "storage", "export"))
)

from anomalib_xray.testing.contract import ModelContract  # noqa: E402  # see above

__all__ = ["ModelContract"]
