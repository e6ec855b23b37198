"""Part of the contract: anomalib finds the plugin under all the names that users write."""

from __future__ import annotations

from anomalib.models import AnomalibModule, convert_to_snake_case, get_model, list_models
from jsonargparse import ArgumentParser

import anomalib_xray.models
from anomalib_xray.testing.base import ContractBase


class DiscoveryContract(ContractBase):
    """The plugin is an anomalib model like those that come with anomalib."""

    def test_is_a_direct_subclass_of_anomalibs_module(self) -> None:
        """Look-ups of anomalib ignore subclasses of subclasses; share code by mixins."""
        assert self.model in AnomalibModule.__subclasses__()

    def test_is_offered_by_its_entry_point(self) -> None:
        """``anomalib_xray.models.<Name>`` is the plugin's class."""
        assert getattr(anomalib_xray.models, self.model.__name__) is self.model

    def test_is_listed(self) -> None:
        """``list_models()`` names it."""
        assert convert_to_snake_case(self.model.__name__) in list_models()

    def test_is_found_by_name(self) -> None:
        """``get_model`` takes both spellings of its name."""
        name = self.model.__name__
        settings = dict(self.settings)
        assert type(get_model(name, **settings)) is self.model
        assert type(get_model(convert_to_snake_case(name), **settings)) is self.model

    def test_is_found_by_class_path(self) -> None:
        """``get_model`` takes the class path that configurations write."""
        class_path = f"anomalib_xray.models.{self.model.__name__}"
        assert type(get_model({"class_path": class_path, "init_args": dict(self.settings)})) is self.model

    def test_takes_its_settings_from_a_configuration(self) -> None:
        """The ``anomalib`` command builds it, and every setting has a help text and a type."""
        parser = ArgumentParser(exit_on_error=False)
        parser.add_subclass_arguments(AnomalibModule, "model")
        model = {"class_path": f"anomalib_xray.models.{self.model.__name__}", "init_args": dict(self.settings)}
        built = parser.instantiate_classes(parser.parse_object({"model": model})).model
        assert type(built) is self.model
        assert {name: built.hparams[name] for name in self.settings} == dict(self.settings)

        help_parser = ArgumentParser()
        help_parser.add_class_arguments(self.model)
        undocumented = [action.dest for action in help_parser._actions if not action.help]
        assert undocumented == []
