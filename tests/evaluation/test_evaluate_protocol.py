"""Whole splits: against scikit-learn on all pixels at once, against the training's validation, over ranks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_trees import save_grey_mask, save_image, write_camvid_tree
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix
from torch import Tensor, nn

from segsweep.data.loader import EvalLoader
from segsweep.data.shards import open_shards, prepare
from segsweep.data.sources import open_source
from segsweep.errors import DataError, InvalidInput
from segsweep.evaluation.evaluate import evaluate_protocol
from segsweep.evaluation.inference import predict_image
from segsweep.evaluation.protocols import EvaluationProtocol, Resize
from segsweep.evaluation.report import EvaluationReport
from segsweep.metrics.confusion import mean_iou
from segsweep.metrics.panoptic import match_classes
from segsweep.models.interface import SegmentationOutput
from segsweep.training.inference import evaluate

CPU = torch.device("cpu")
ORIGINAL = EvaluationProtocol(resize=Resize(size=(16, 24)))
PREPARED = EvaluationProtocol(labels="prepared")
CAMVID_CLASSES = 11


class Conv(nn.Module):
    """Half-size logits."""

    def __init__(self, num_classes: int = CAMVID_CLASSES) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, num_classes, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> SegmentationOutput:
        return SegmentationOutput(self.conv(images))


@pytest.fixture(scope="module")
def camvid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CamVid's layout with five validation images, the last of another size."""
    root = tmp_path_factory.mktemp("data") / "camvid"
    write_camvid_tree(root, counts={"train": 2, "val": 4})
    generator = np.random.default_rng(9)
    save_image(root / "val" / "wide.png", generator.integers(256, size=(20, 44, 3), dtype=np.uint8))
    save_grey_mask(root / "valannot" / "wide.png", generator.integers(12, size=(20, 44)).astype(np.uint16))
    return root


@pytest.fixture(scope="module")
def report(camvid: Path) -> EvaluationReport:
    source = open_source("camvid", root=camvid)
    return evaluate_protocol(Conv(), source, ORIGINAL, batch_size=2)


def test_matrix_counts_every_labelled_pixel_at_its_own_resolution(
    report: EvaluationReport, camvid: Path
) -> None:
    source, model = open_source("camvid", root=camvid), Conv().eval()
    truth, found, table = [], [], torch.zeros(CAMVID_CLASSES, 4, dtype=torch.float64)
    for key in source.keys("val"):
        sample = source.load("val", key)
        prediction = predict_image(model, sample.image, ORIGINAL, device=CPU).astype(np.int64)
        truth.append(sample.labels.ravel())
        found.append(prediction.ravel())
        labels = torch.from_numpy(sample.labels.astype(np.int64))[None]
        table += match_classes(torch.from_numpy(prediction)[None], labels, num_classes=CAMVID_CLASSES)
    kept = np.concatenate(truth) != 255
    expected = sklearn_confusion_matrix(
        np.concatenate(truth)[kept], np.concatenate(found)[kept], labels=range(CAMVID_CLASSES)
    )
    np.testing.assert_array_equal(report.matrix[:, :-1], expected)
    assert not report.matrix[:, -1].any()
    torch.testing.assert_close(report.segments, table, rtol=0, atol=1e-12)


def test_every_image_is_scored_once_in_order_and_the_worst_come_first(
    report: EvaluationReport, camvid: Path
) -> None:
    keys = open_source("camvid", root=camvid).keys("val")
    assert [(image.row, image.key) for image in report.images] == list(enumerate(keys))
    worst = report.worst(3)
    assert [image.miou for image in worst] == sorted(image.miou for image in report.images)[:3]


def test_prepared_data_give_the_mean_iou_of_the_validation_during_training(tiny_shards: Path) -> None:
    shards = open_shards(tiny_shards)
    model = Conv(shards.info.num_classes)
    batches = EvalLoader(shards.dataset("val"), batch_size=2)
    matrix = evaluate(model, batches, num_classes=shards.info.num_classes, device=CPU)
    report = evaluate_protocol(model, shards, PREPARED, batch_size=2)
    assert torch.equal(report.matrix[:, :-1], matrix)
    assert report.miou == mean_iou(matrix)


def test_labels_of_a_source_are_prepared_as_shards_are(camvid: Path, tmp_path: Path) -> None:
    source = open_source("camvid", root=camvid)
    shards = prepare(source, tmp_path / "shards", size=(16, 24))
    protocol = PREPARED.model_copy(update={"resize": Resize(size=(16, 24))})
    of_source, of_shards = (evaluate_protocol(Conv(), data, protocol) for data in (source, shards))
    assert torch.equal(of_source.matrix, of_shards.matrix)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_batches_do_not_change_the_result(report: EvaluationReport, camvid: Path, batch_size: int) -> None:
    source = open_source("camvid", root=camvid)
    other = evaluate_protocol(Conv(), source, ORIGINAL, batch_size=batch_size)
    assert int((other.matrix - report.matrix).abs().sum()) <= 2  # sums in another order may break a tie


def test_progress_ends_with_all_images_and_the_mode_is_kept(camvid: Path) -> None:
    told: list[tuple[int, int]] = []
    model = Conv().train()
    evaluate_protocol(
        model, open_source("camvid", root=camvid), ORIGINAL, progress=lambda *step: told.append(step)
    )
    assert told == [(done, 5) for done in range(1, 6)]
    assert model.training


def test_report_is_json_in_which_undefined_scores_are_null(report: EvaluationReport) -> None:
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert document["miou"] == report.miou
    assert [item["name"] for item in document["classes"]] == list(report.info.class_names)
    assert sum(map(sum, document["confusion_matrix"])) == int(report.matrix.sum())
    nothing = torch.zeros_like(report.matrix)
    empty = EvaluationReport(**{**_fields(report), "matrix": nothing})
    assert empty.metrics().keys() == {"pq_st", "sq_st", "rq_st"}
    assert {item["iou"] for item in empty.to_json()["classes"]} == {None}


def test_image_without_labels_is_not_among_the_worst(tmp_path: Path) -> None:
    write_camvid_tree(tmp_path, counts={"train": 1, "val": 1})
    save_image(tmp_path / "val" / "void.png", np.zeros((24, 32, 3), np.uint8))
    save_grey_mask(tmp_path / "valannot" / "void.png", np.full((24, 32), 11, np.uint16))
    report = evaluate_protocol(Conv(), open_source("camvid", root=tmp_path), ORIGINAL)
    assert math.isnan(report.images[-1].miou)
    assert [image.key for image in report.worst(5)] == [report.images[0].key]


def test_resized_shards_have_no_original_labels(tiny_shards: Path) -> None:
    with pytest.raises(InvalidInput, match="holds labels resized to 64x128; evaluate the data set itself"):
        evaluate_protocol(Conv(), open_shards(tiny_shards), ORIGINAL)


def test_prepared_labels_of_a_source_need_their_size(camvid: Path) -> None:
    with pytest.raises(InvalidInput, match=r"needs prepared data, or resize\.size"):
        evaluate_protocol(Conv(), open_source("camvid", root=camvid), PREPARED)


def test_unknown_split_is_answered_with_the_known_ones(camvid: Path) -> None:
    with pytest.raises(DataError, match="camvid has no split 'test'; it has train, val"):
        evaluate_protocol(Conv(), open_source("camvid", root=camvid), ORIGINAL, split="test")


def _fields(report: EvaluationReport) -> dict[str, Any]:
    return {name: getattr(report, name) for name in EvaluationReport.__dataclass_fields__}
