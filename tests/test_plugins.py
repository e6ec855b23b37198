"""Discovery of plugins, with entry points that only these tests declare."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from types import ModuleType, SimpleNamespace

import pytest
from anomalib.models import AnomalibModule

from anomalib_xray import plugins
from anomalib_xray.plugins import MODEL_GROUP, check_models, find_plugins, load_models

MODULE = "models_of_a_third_party"

Declare = Callable[..., None]


@pytest.fixture
def third_party(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of a third party whose classes anomalib forgets after the test."""
    module = ModuleType(MODULE)
    monkeypatch.setitem(sys.modules, MODULE, module)
    yield module
    vars(module).clear()
    gc.collect()


def offer(module: ModuleType, name: str, base: type = AnomalibModule) -> type:
    """Gives the module a class of a name."""
    offered = type(name, (base,), {"__module__": module.__name__})
    setattr(module, name, offered)
    return offered


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Declare:
    """Declares entry points, each a name, a target and a distribution, in place of the installed ones."""

    def declare_all(*declared: tuple[str, str, str | None]) -> None:
        points = []
        for name, target, distribution in declared:
            point = EntryPoint(name, target, MODEL_GROUP)
            if distribution is not None:
                vars(point)["dist"] = SimpleNamespace(name=distribution, version="1.2")
            points.append(point)
        monkeypatch.setattr(plugins, "entry_points", lambda group: [p for p in points if p.group == group])

    return declare_all


def test_plugins_are_listed_by_name_without_being_imported(declare: Declare) -> None:
    declare(("Vae", "nowhere.vae:Vae", "zoo"), ("Bae", "nowhere.bae:Bae", None), ("Vae", "else.vae:Vae", "ark"))
    found = [(plugin.name, plugin.target, plugin.distribution) for plugin in find_plugins()]
    assert found == [
        ("Bae", "nowhere.bae:Bae", "unknown"),
        ("Vae", "else.vae:Vae", "ark 1.2"),
        ("Vae", "nowhere.vae:Vae", "zoo 1.2"),
    ]
    assert find_plugins("another.group") == []


def test_a_third_partys_model_is_loaded(declare: Declare, third_party: ModuleType) -> None:
    offered = offer(third_party, "Newcomer")
    declare(("Newcomer", f"{MODULE}:Newcomer", "zoo"))
    models, failures = load_models()
    assert models == {"Newcomer": offered}
    assert failures == {}


@pytest.mark.parametrize(
    ("name", "target", "reason"),
    [
        ("Missing", "no_such_package.missing:Missing", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("Absent", f"{MODULE}:Absent", "AttributeError: .*Absent"),
        ("Function", f"{MODULE}:Function", "not a subclass of anomalib's AnomalibModule"),
        ("Stranger", f"{MODULE}:Stranger", "not a subclass of anomalib's AnomalibModule"),
        ("Grandchild", f"{MODULE}:Grandchild", "does not derive directly from AnomalibModule"),
        ("Alias", f"{MODULE}:Newcomer", "its class is called Newcomer"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_reported_and_takes_no_other_down(
    declare: Declare, third_party: ModuleType, name: str, target: str, reason: str
) -> None:
    newcomer = offer(third_party, "Newcomer")
    offer(third_party, "Grandchild", newcomer)
    offer(third_party, "Stranger", object)
    vars(third_party)["Function"] = print
    declare((name, target, "zoo"), ("Newcomer", f"{MODULE}:Newcomer", "zoo"))
    with pytest.warns(UserWarning, match=f"The model plugin {name} could not be loaded: .*{reason}"):
        models, failures = load_models()
    assert models == {"Newcomer": newcomer}
    assert failures.keys() == {name}
    verdicts = {plugin.name: verdict for plugin, verdict in check_models()}
    assert verdicts == {"Newcomer": None, name: failures[name]}


def test_a_plugin_whose_import_raises_is_reported_with_the_cause(declare: Declare, third_party: ModuleType) -> None:
    def fail(name: str) -> None:
        raise RuntimeError(f"{name} needs a licence")

    vars(third_party)["__getattr__"] = fail
    declare(("Costly", f"{MODULE}:Costly", "zoo"))
    with pytest.warns(UserWarning, match="Costly .*RuntimeError: Costly needs a licence"):
        assert load_models()[0] == {}


def test_of_two_plugins_with_one_name_the_first_distributions_is_taken_and_the_other_reported(
    declare: Declare, third_party: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ModuleType("models_of_another")
    monkeypatch.setitem(sys.modules, other.__name__, other)
    offer(third_party, "Newcomer")
    first = offer(other, "Newcomer")
    declare(("Newcomer", f"{MODULE}:Newcomer", "zoo"), ("Newcomer", "models_of_another:Newcomer", "ark"))
    with pytest.warns(
        UserWarning,
        match=r"Newcomer could not be loaded: the name Newcomer is taken by the plugin of ark 1.2 \(zoo 1.2\)",
    ):
        models, failures = load_models()
    assert models == {"Newcomer": first}
    assert failures.keys() == {"Newcomer"}
