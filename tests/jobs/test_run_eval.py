"""A trained run evaluated and used: from its folder alone, recorded in MLflow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from job_files import write_tiny_training
from mlflow.tracking import MlflowClient
from PIL import Image

from segsweep.data.sources import open_source
from segsweep.errors import DataError, InvalidInput, InvalidJob
from segsweep.evaluation.evaluate import evaluate_protocol
from segsweep.evaluation.protocols import EvaluationProtocol, Resize, find_protocol
from segsweep.jobs.common import prepared
from segsweep.jobs.designs import train_configs
from segsweep.jobs.folders import remember
from segsweep.jobs.load import load_job
from segsweep.jobs.news import silent
from segsweep.jobs.predict import predict_images
from segsweep.jobs.run_eval import EvalResult, choose_protocol, evaluate_run
from segsweep.jobs.spec import TrainJob
from segsweep.jobs.trained_run import open_run
from segsweep.records import Score
from segsweep.training.loop import Schedule, fit
from segsweep.training.session import PlainSession

RUN = "mine"
CPU = torch.device("cpu")
EXIF_ORIENTATION, QUARTER_TURN = 0x0112, 6


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def scores(out: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Score]:
    """What ``segsweep train`` leaves behind, without its workers."""
    job = load_job(write_tiny_training(tmp_path_factory.mktemp("job")), overrides=[f"out={out}"])
    assert isinstance(job, TrainJob)
    folder = out / "trainings" / RUN
    remember(folder, job.model_dump(mode="json"), may_change=())
    config, recipe = train_configs(job)
    torch.manual_seed(0)
    shards = prepared(job.data, out, say=silent)
    model = config.build(shards.info.num_classes)
    session = PlainSession(save_to=folder / "checkpoint.pt")
    return fit(model, Schedule(shards=shards, recipe=recipe), session, device=CPU)


@pytest.fixture(scope="module")
def result(scores: list[Score], out: Path) -> EvalResult:
    """The run evaluated on prepared data."""
    return evaluate_run(RUN, "prepared", out=out, batch_size=2, worst=2, gpu=False)


def test_prepared_data_give_the_score_of_the_last_validation(result: EvalResult, scores: list[Score]) -> None:
    assert result.report.miou == scores[-1].miou
    assert len(result.report.images) == 4


def test_folder_holds_report_table_matrix_and_the_worst_images(result: EvalResult) -> None:
    document = json.loads((result.folder / "report.json").read_text())
    assert document["miou"] == result.report.miou
    table = (result.folder / "report.md").read_text()
    assert all(name in table for name in result.report.info.class_names)
    assert Image.open(result.figure).format == "PNG"
    assert len(result.worst) == 2 and all(path.parent.name == "worst" for path in result.worst)
    width, height = Image.open(result.worst[0]).size
    assert width > 4 * 128 and height > 64  # four panels of 64x128


def test_document_for_scripts_is_json(result: EvalResult) -> None:
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert (document["run_id"], document["protocol_name"], document["images"]) == (RUN, "prepared", 4)
    assert document["mlflow"]["problem"] == ""


def test_mlflow_has_the_evaluation_with_scores_classes_and_pictures(result: EvalResult, out: Path) -> None:
    assert result.mlflow.tracking_uri == f"sqlite:///{out / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=result.mlflow.tracking_uri)
    run = client.get_run(result.mlflow.parent_run_id)
    assert (run.info.status, run.data.tags["segsweep.evaluates"]) == ("FINISHED", RUN)
    assert run.data.metrics["miou"] == result.report.miou
    names = {name.removeprefix("iou/") for name in run.data.metrics if name.startswith("iou/")}
    assert names and names <= set(result.report.info.class_names)
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"report.md", "report.json", "confusion.png", "worst", "protocol.json"} <= files


def test_original_protocol_resizes_class_maps_and_not_labels(scores: list[Score], out: Path) -> None:
    run = open_run("latest", out=out)
    result = evaluate_run(out / "trainings" / RUN, overrides={"flip": True}, worst=0, gpu=False)
    protocol = EvaluationProtocol(resize=Resize(size=(64, 128)), flip=True)
    expected = evaluate_protocol(run.model(CPU), run.source, protocol)
    assert torch.equal(result.report.matrix, expected.matrix)
    assert (result.protocol, result.folder.name) == ("original-changed", "original-changed-val")


def test_checkpoint_file_beside_its_job_is_a_run(scores: list[Score], out: Path) -> None:
    run = open_run(out / "trainings" / RUN / "checkpoint.pt")
    assert (run.run_id, run.size, run.out) == (RUN, (64, 128), out)


def test_averaged_weights_are_those_that_were_validated(scores: list[Score], out: Path) -> None:
    run = open_run(RUN, out=out)
    state = torch.load(run.checkpoint, weights_only=True)
    found = run.model(CPU).state_dict()
    assert all(torch.equal(value, found[name]) for name, value in state["average"].items())
    assert any(not torch.equal(value, found[name]) for name, value in state["model"].items())


def test_missing_run_is_answered_with_those_that_are_there(scores: list[Score], out: Path) -> None:
    with pytest.raises(InvalidJob, match=r"found no training there nor below .*trainings; it holds mine"):
        open_run("yours", out=out)


def test_run_without_a_finished_epoch_says_so(scores: list[Score], out: Path, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text((out / "trainings" / RUN / "job.json").read_text())
    with pytest.raises(DataError, match="has not finished an epoch"):
        open_run(tmp_path)
    (tmp_path / "job.json").write_text("{}")
    with pytest.raises(InvalidJob, match="not the job of a training"):
        open_run(tmp_path)


def test_weights_of_another_design_are_refused(scores: list[Score], out: Path, tmp_path: Path) -> None:
    document = json.loads((out / "trainings" / RUN / "job.json").read_text())
    document["job"]["point"]["neck.channels"] = 16
    (tmp_path / "job.json").write_text(json.dumps(document))
    (tmp_path / "checkpoint.pt").write_bytes((out / "trainings" / RUN / "checkpoint.pt").read_bytes())
    with pytest.raises(DataError, match="the weights do not fit the design"):
        open_run(tmp_path).model(CPU)


def test_protocol_may_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("scales: [0.5, 1]\nflip: true\n")
    name, protocol = choose_protocol(str(path), size=None)
    assert (name, protocol) == ("mine", EvaluationProtocol(scales=(0.5, 1.0), flip=True))
    assert choose_protocol("original", size=(8, 8)) == ("original", find_protocol("original", size=(8, 8)))
    path.write_text("scales: [0.5, 1")
    with pytest.raises(InvalidInput, match=r"mine\.yaml:"):
        choose_protocol(str(path), size=None)
    with pytest.raises(InvalidInput, match="no such file"):
        choose_protocol("other.yaml", size=None)


def test_pictures_get_masks_of_class_ids_and_overlays(scores: list[Score], out: Path, tmp_path: Path) -> None:
    scene = open_source("synthetic", root=None, options={"height": 80, "width": 120}).load("val", "000000")
    for name in ("a.png", "b.jpg", "more/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(scene.image).save(tmp_path / name)
    images = [tmp_path / "a.png", tmp_path / "b.jpg", tmp_path / "more"]
    predicted = predict_images(RUN, images, tmp_path / "out", runs=out, gpu=False)
    assert [item.mask.name for item in predicted] == ["a_mask.png", "b_mask.png", "a-2_mask.png"]
    info = open_run(RUN, out=out).info
    for item in predicted:
        mask, mixed = Image.open(item.mask), Image.open(item.overlay)
        assert (mask.mode, mask.size, mixed.size) == ("P", (120, 80), (120, 80))
        ids = np.asarray(mask)
        assert ids.max() < info.num_classes
        colours = np.asarray(mask.convert("RGB"))
        np.testing.assert_array_equal(colours, np.array(info.palette, np.uint8)[ids])
        assert sum(item.shares.values()) == pytest.approx(1)
    np.testing.assert_array_equal(
        np.asarray(Image.open(predicted[0].mask)), np.asarray(Image.open(predicted[2].mask))
    )
    assert (tmp_path / "out" / "legend.png").is_file()


def test_picture_is_turned_as_its_tag_says(scores: list[Score], out: Path, tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[EXIF_ORIENTATION] = QUARTER_TURN
    Image.new("RGB", (120, 80)).save(tmp_path / "phone.jpg", exif=tags)
    (item,) = predict_images(RUN, [tmp_path / "phone.jpg"], tmp_path / "out", runs=out, gpu=False)
    assert Image.open(item.mask).size == (80, 120)


def test_paths_that_are_no_pictures_are_all_named(scores: list[Score], out: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"(?s)gone\.png: no such file.*holds no PNG or JPEG"):
        predict_images(RUN, [tmp_path / "gone.png", tmp_path], tmp_path / "out", runs=out)
    with pytest.raises(InvalidInput, match="none given"):
        predict_images(RUN, [], tmp_path / "out", runs=out)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    with pytest.raises(InvalidInput, match="pictures without labels are not prepared"):
        predict_images(RUN, [tmp_path / "a.png"], tmp_path / "out", runs=out, protocol="prepared")
