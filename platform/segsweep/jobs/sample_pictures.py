"""Sample predictions of the networks that a sweep kept, drawn for its report."""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch

from segsweep.data.shards import ShardSet
from segsweep.errors import DataError
from segsweep.evaluation.inference import predict_image
from segsweep.evaluation.protocols import PREPARED, EvaluationProtocol
from segsweep.jobs.finished_sweep import FinishedSweep
from segsweep.jobs.image_scores import SPLIT, prepared_data
from segsweep.jobs.trained_run import inference_device
from segsweep.jobs.trial_models import kept_models, load_trial_model
from segsweep.reporting.overlays import comparison
from segsweep.reporting.report.summary import cards
from segsweep.training.model_file import TrialModel

SAMPLES = 3  # validation images of each design
DESIGNS = 3


def sample_pictures(
    sweep: FinishedSweep, *, samples: int = SAMPLES, gpu: bool | None = None
) -> dict[str, list[bytes]]:
    """What the designs to look at first predict: picture, truth, prediction and mistakes side by side.

    Args:
        sweep: The best design, the knees and the extremes of its front are shown, as far as kept.
        samples: Validation images of each, evenly spread over the split.
        gpu: Whether to use a GPU; ``None``: if there is one.

    Returns:
        ``SWEEP/TRIAL`` -> PNG files as bytes.

    Raises:
        DataError: If no network was kept, or the prepared data are gone; says which.
    """
    kept = kept_models(sweep.folder)
    chosen = [card["trial"] for card in cards(sweep) if card["trial"] in kept][:DESIGNS]
    if not chosen:
        raise DataError(f"{sweep.folder}: no network of the front was kept (sweep.keep_models: front does)")
    shards = prepared_data(sweep)
    device = inference_device(gpu)
    return {
        f"{sweep.sweep_id}/{trial_id}": _drawn(
            load_trial_model(sweep.folder, trial_id, device=device), shards, samples, device
        )
        for trial_id in chosen
    }


def _drawn(trained: TrialModel, shards: ShardSet, samples: int, device: torch.device) -> list[bytes]:
    if trained.num_classes != shards.info.num_classes:  # a policy network: its two classes are not the data's
        raise DataError(f"a {trained.method} network does not predict the {shards.info.num_classes} classes")
    dataset = shards.dataset(SPLIT)
    protocol = EvaluationProtocol(labels=PREPARED)
    pictures = []
    for row in spread(len(dataset), samples):
        pixels, labels = dataset.arrays(row)
        image = pixels.transpose(1, 2, 0)
        predicted = predict_image(trained.model, image, protocol, device=device)
        title = f"{dataset.key(row)}: picture, truth, prediction, mistakes (red)"
        file = io.BytesIO()
        comparison(image, labels, predicted, shards.info, title=title).save(file, "PNG", compress_level=1)
        pictures.append(file.getvalue())
    return pictures


def spread(count: int, wanted: int) -> Sequence[int]:
    """At most ``wanted`` of ``count`` rows, evenly spread, each once."""
    taken = min(count, wanted)
    return [(2 * place + 1) * count // (2 * taken) for place in range(taken)]
