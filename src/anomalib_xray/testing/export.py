"""Part of the contract: the exported model answers as torch does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anomalib_xray.edge.bundle import Bundle
from anomalib_xray.edge.predictor import Predictor
from anomalib_xray.errors import XrayError
from anomalib_xray.testing.base import TOLERANCE, ContractBase, Training, as_input, pre_process, radiographs, score


class ExportContract(ContractBase):
    """ONNX and OpenVINO files run without torch and give the same numbers, or are refused."""

    @pytest.mark.parametrize("export", ["to_onnx", "to_openvino"])
    def test_exported_model_agrees(self, trained: Training, tmp_path: Path, export: str) -> None:
        """Score, decision and map agree on images of several sizes, as the description beside the export says.

        A model that is not ``exportable`` refuses instead, before anything is written.
        """
        if not self.exportable:
            with pytest.raises(XrayError, match=self.model.__name__):
                getattr(trained.model, export)(tmp_path)
            assert list(tmp_path.iterdir()) == []
            return
        path = Path(getattr(trained.model, export)(tmp_path))
        bundle = Bundle.open(path)
        assert bundle.model == self.model.__name__
        assert bundle.score == trained.model.hparams["score"]
        (parity,) = bundle.precisions["fp32"].parity.values()
        assert parity.images > 0
        assert parity.score is not None, "the exported model gives scores that are not finite"
        assert parity.score <= TOLERANCE, f"scores of the exported model differ: {parity}"
        assert (parity.map or 0) <= TOLERANCE, f"maps of the exported model differ: {parity}"
        predictor = Predictor(bundle)
        assert len({radiograph.shape for radiograph in radiographs()}) > 1
        for radiograph in radiographs():
            prediction = predictor.predict(radiograph)
            expected = score(trained.model, pre_process(trained.model, as_input(radiograph)))
            assert prediction.value == pytest.approx(float(expected.pred_score), rel=TOLERANCE)
            with torch.no_grad():
                decided = trained.model(as_input(radiograph))
            assert prediction.is_anomalous == bool(decided.pred_label)
            assert (prediction.heat_map is None) == (expected.anomaly_map is None)
            if prediction.heat_map is not None:
                assert prediction.heat_map.shape == radiograph.shape
