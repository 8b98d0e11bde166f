"""Evaluate a trained run: scores, table, confusion matrix, worst images; recorded in MLflow."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from segsweep.data.interface import Labels
from segsweep.errors import InvalidInput, Problem
from segsweep.evaluation.evaluate import Progress, evaluate_protocol
from segsweep.evaluation.inference import predict_image
from segsweep.evaluation.protocols import (
    ORIGINAL,
    PREPARED,
    EvaluationProtocol,
    Resize,
    find_protocol,
    read_protocol,
)
from segsweep.evaluation.report import EvaluationReport, ImageScore
from segsweep.evaluation.samples import SplitSamples
from segsweep.jobs.common import experiment_name, tracking_uri
from segsweep.jobs.folders import OUT
from segsweep.jobs.job_values import read_text
from segsweep.jobs.news import Say, silent
from segsweep.jobs.trained_run import TrainedRun, inference_device, open_run
from segsweep.records import TrialStatus
from segsweep.reporting.class_table import conditions, evaluation_markdown
from segsweep.reporting.confusion_figure import confusion_figure
from segsweep.reporting.overlays import comparison
from segsweep.search.yaml_lines import parse_yaml
from segsweep.tracking.durable import durable_run_logger
from segsweep.tracking.spool import SPOOL
from segsweep.tracking.tracker import MlflowLink, ParamValue
from segsweep.tracking.trial_runs import RUN_KIND

EVALUATIONS = "evaluations"
EVALUATES = "segsweep.evaluates"  # tag: id of the training
WORST_IMAGES = 8
_CUSTOM = "custom"
_NOT_IN_METRIC_NAMES = re.compile(r"[^A-Za-z0-9_. /-]+")  # MLflow's rule


@dataclass(frozen=True, kw_only=True)
class EvalResult:
    """An evaluation and what was written.

    Attributes:
        run_id: The training that was evaluated.
        protocol: Name of the protocol.
        folder: Holds ``report.json``, ``report.md``, ``confusion.png`` and ``worst/``.
        report: Scores and counts.
        figure: Picture of the confusion matrix.
        worst: Pictures of the images with the lowest mIoU, the lowest first.
        mlflow: Where it is recorded.
    """

    run_id: str
    protocol: str
    folder: Path
    report: EvaluationReport
    figure: Path
    worst: tuple[Path, ...]
    mlflow: MlflowLink

    def to_json(self) -> dict[str, Any]:
        """The document of ``--json``."""
        document = self.report.to_json()
        for lengthy in ("confusion_matrix", "per_image"):
            del document[lengthy]
        return {
            "run_id": self.run_id,
            "protocol_name": self.protocol,
            **document,
            "folder": str(self.folder),
            "figure": str(self.figure),
            "worst": [str(path) for path in self.worst],
            "mlflow": {
                "tracking_uri": self.mlflow.tracking_uri,
                "run_id": self.mlflow.parent_run_id,
                "url": self.mlflow.url,
                "problem": self.mlflow.problem,
            },
        }


def evaluate_run(
    run: str | Path,
    protocol: str | EvaluationProtocol = ORIGINAL,
    *,
    split: str = "val",
    overrides: Mapping[str, Any] | None = None,
    out: Path = OUT,
    data_root: Path | None = None,
    batch_size: int = 1,
    worst: int = WORST_IMAGES,
    gpu: bool | None = None,
    progress: Progress | None = None,
    say: Say = silent,
) -> EvalResult:
    """Evaluate the weights of a training's last validation.

    Args:
        run: Folder, checkpoint file or id of a training, or ``latest``.
        protocol: A name (``original``, ``prepared``, or a key of ``PROTOCOLS``), a YAML file, or a protocol.
        split: Split of the data set.
        overrides: Values of the protocol that replace those of the name or the file.
        out: Where ids are looked up.
        data_root: Where the data set lies now, if that has changed.
        batch_size: Images of equal size in one forward pass.
        worst: How many of the worst images to draw.
        gpu: Whether to use a GPU; ``None``: if there is one.
        progress: Called with the number of images done and in all.
        say: Takes one line of news at a time.

    Raises:
        InvalidInput: If there is no such run or protocol, or they do not fit together.
        DataError: If the data or the checkpoint cannot be read.
    """
    trained = open_run(run, out=out, data_root=data_root)
    name, chosen = choose_protocol(protocol, size=trained.size, overrides=overrides)
    _check_squares(trained, chosen)
    device = inference_device(gpu)
    model = trained.model(device)
    data = trained.shards(say=say) if chosen.labels == PREPARED else trained.source
    say(f"evaluating {trained.run_id} on {split}: {chosen.summary}")
    report = evaluate_protocol(
        model,
        data,
        chosen,
        split=split,
        device=device,
        batch_size=batch_size,
        progress=progress,
        info=trained.told_apart,
        targets=trained.targets,
    )
    folder = _emptied(trained.folder / EVALUATIONS / f"{name.replace('/', '-')}-{split}")
    samples = SplitSamples(data=data, split=split, protocol=chosen)
    pictures = _draw_worst(trained, model, samples, report.worst(worst), folder=folder / "worst")
    figure = _write(report, folder, title=f"{trained.run_id}, {name}")
    return EvalResult(
        run_id=trained.run_id,
        protocol=name,
        folder=folder,
        report=report,
        figure=figure,
        worst=pictures,
        mlflow=_record(trained, name, report, folder),
    )


def choose_protocol(
    protocol: str | EvaluationProtocol,
    *,
    size: tuple[int, int] | None,
    overrides: Mapping[str, Any] | None = None,
) -> tuple[str, EvaluationProtocol]:
    """Name and values of a protocol that a user gave by name, by file or as such."""
    if isinstance(protocol, EvaluationProtocol):
        return _CUSTOM, read_protocol({**protocol.model_dump(), **(overrides or {})}, where="protocol")
    path = Path(protocol)
    if path.suffix not in (".yaml", ".yml"):
        found = find_protocol(protocol, size=size, overrides=overrides)
        return (f"{protocol}-changed" if overrides else protocol), found
    if not path.is_file():
        raise InvalidInput([Problem(where=str(path), message="no such file; give a YAML file or a name")])
    document = parse_yaml(read_text(path, what="a protocol"))
    if document.problems:
        raise InvalidInput(
            Problem(where=f"{path}:{line}", message=message) for line, message in document.problems
        )
    values = document.value if isinstance(document.value, dict) else {"": document.value}
    return path.stem, read_protocol({**values, **(overrides or {})}, where=str(path))


def _emptied(folder: Path) -> Path:
    """The folder without the pictures of an earlier evaluation of the same name."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _check_squares(trained: TrainedRun, protocol: EvaluationProtocol) -> None:
    """A policy network judges squares of what it sees: labels must be of that size."""
    if trained.told_apart is trained.info or protocol.labels == PREPARED or protocol.resize == Resize():
        return
    message = (
        f"a {trained.job.method} network tells apart {', '.join(trained.told_apart.class_names)} in squares "
        "of the image as it sees it, so labels of another size do not compare; take --protocol prepared"
    )
    raise InvalidInput([Problem(where="protocol", message=message)])


def _draw_worst(
    trained: TrainedRun,
    model: nn.Module,
    samples: SplitSamples,
    images: tuple[ImageScore, ...],
    *,
    folder: Path,
) -> tuple[Path, ...]:
    device = next(model.parameters()).device
    paths = []
    for place, scored in enumerate(images, start=1):
        key, image, labels = samples.pixels(scored.row)
        prediction = predict_image(model, image, samples.protocol, device=device)
        title = f"{key}: mIoU {100 * scored.miou:.1f} %, pixel accuracy {100 * scored.pixel_accuracy:.1f} %"
        truth = _targets(trained, labels)
        picture = comparison(np.asarray(image), truth, prediction, trained.told_apart, title=title)
        path = folder / f"{place:02d}_{re.sub(r'[^A-Za-z0-9._-]+', '_', key)[-80:]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        paths.append(path)
    return tuple(paths)


def _targets(trained: TrainedRun, labels: Labels) -> Labels:
    """What a prediction is compared with, ``(H, W)``."""
    if trained.told_apart is trained.info:
        return labels
    targets = trained.targets(
        torch.from_numpy(labels.astype(np.int64))[None], ignore_index=trained.info.ignore_index
    )
    return targets[0].numpy().astype(trained.info.label_dtype)


def _write(report: EvaluationReport, folder: Path, *, title: str) -> Path:
    (folder / "report.json").write_text(json.dumps(report.to_json(), indent=1, allow_nan=False))
    (folder / "report.md").write_text(evaluation_markdown(report, title=title), encoding="utf-8")
    heading = f"{title}: mIoU {100 * report.miou:.2f} %"
    return confusion_figure(
        report.matrix.numpy(),
        report.info.class_names,
        folder / "confusion.png",
        title=heading,
        subtitle=conditions(report),
    )


def _record(trained: TrainedRun, name: str, report: EvaluationReport, folder: Path) -> MlflowLink:
    """One MLflow run of its own in the experiment of the training, tagged with the training's id."""
    job = trained.job.model_copy(update={"out": trained.out})
    spool = folder.with_name(f"{folder.name}.{SPOOL}")  # beside it: another evaluation empties the folder
    logger = durable_run_logger(tracking_uri(job), experiment=experiment_name(job), spool=spool)
    params: dict[str, ParamValue] = {
        "run": trained.run_id,
        "checkpoint": str(trained.checkpoint),
        "protocol": name,
        "conditions": report.protocol.summary,
        "data": report.info.name,
        "split": report.split,
        "images": len(report.images),
    }
    try:
        logger.start_run(
            f"eval {trained.run_id} {name}",
            params=params,
            tags={RUN_KIND: "evaluation", EVALUATES: trained.run_id},
            artifacts={"protocol.json": report.protocol.model_dump_json(indent=1)},
        )
        logger.log(0, {**report.metrics(), **_class_metrics(report)})
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        logger.attach({path.relative_to(folder).as_posix(): path for path in files})
        logger.finish(TrialStatus.COMPLETE)
    finally:
        link = logger.close()
    return link


def _class_metrics(report: EvaluationReport) -> dict[str, float]:
    return {
        f"iou/{_NOT_IN_METRIC_NAMES.sub('_', item.name)}": item.iou
        for item in report.classes()
        if item.iou == item.iou  # not NaN
    }
