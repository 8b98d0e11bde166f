"""Counting a confusion matrix against torchmetrics: images of 1024x2048, 19 and 150 classes, one thread.

    python benchmarks/metric_speed.py [--size 1024 2048] [--classes 19 150] [--rounds 7] [--threads 1]

Both sum the matrices of the same images; 5 % of the labels are void. Two kinds of label maps: ``regions``
(large ones whose edges are predicted wrong, as in a segmentation) and ``noise`` (every pixel on its own, the
worst case for memory). Rounds are interleaved, so that a drift of the machine meets all alike. ``ratio`` is
the median over the rounds of the peer's time over ours (above 1, ours is faster), ``ratio_of_minima`` that of
the fastest rounds, which a busy machine disturbs least. The matrices must be equal
to the last integer, or the benchmark ends with an error. torchmetrics is run as it is (it validates its
arguments, as ours does) and with ``validate_args=False``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from segsweep.labels import IGNORE_INDEX
from segsweep.metrics.confusion import confusion_matrix
from segsweep.metrics.scores import pixel_counts
from segsweep.torchvision_compat import ensure_torchvision

ensure_torchvision()
from torchmetrics.classification import MulticlassConfusionMatrix  # noqa: E402  # imports torchvision

VOID_SHARE = 0.05
WRONG_SHARE = 0.15
REGION = 32  # pixels a side
OURS = "pixel_counts"
Images = list[tuple[Tensor, Tensor]]


def label_maps(kind: str, *, size: tuple[int, int], num_classes: int, count: int) -> Images:
    """Predictions int64 (as argmax gives them) and labels int64 of ``count`` images."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    images = []
    for _ in range(count):
        if kind == "regions":
            cells = torch.randint(
                num_classes, (-(-height // REGION), -(-width // REGION)), generator=generator
            )
            labels = cells.repeat_interleave(REGION, 0).repeat_interleave(REGION, 1)[:height, :width]
            predictions = labels.roll((2, 2), (0, 1))  # wrong along the edges
        else:
            labels = torch.randint(num_classes, size, generator=generator)
            wrong = torch.rand(size, generator=generator) < WRONG_SHARE
            predictions = labels.where(~wrong, torch.randint(num_classes, size, generator=generator))
        void = torch.rand(-(-height // REGION), -(-width // REGION), generator=generator) < VOID_SHARE
        void = void.repeat_interleave(REGION, 0).repeat_interleave(REGION, 1)[:height, :width]
        images.append((predictions.contiguous(), labels.masked_fill(void, IGNORE_INDEX)))
    return images


def contenders(num_classes: int) -> dict[str, Callable[[Images], Tensor]]:
    """Name -> images to the sum of their matrices, ``(K, K)``."""

    def ours(images: Images) -> Tensor:
        total = torch.zeros(num_classes, num_classes + 1, dtype=torch.int64)
        for predictions, labels in images:
            total += pixel_counts(predictions, labels, num_classes=num_classes)[:-1]
        return total[:, :-1]

    def training(images: Images) -> Tensor:
        total = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        for predictions, labels in images:
            total += confusion_matrix(predictions, labels, num_classes=num_classes)
        return total

    def peer(validate: bool) -> Callable[[Images], Tensor]:
        def run(images: Images) -> Tensor:
            metric = MulticlassConfusionMatrix(num_classes, ignore_index=IGNORE_INDEX, validate_args=validate)
            for predictions, labels in images:
                metric.update(predictions[None], labels[None])
            found: Tensor = metric.compute()
            return found

        return run

    return {
        OURS: ours,
        "confusion_matrix": training,
        "torchmetrics": peer(True),
        "torchmetrics_without_validation": peer(False),
    }


def measure(
    kind: str, *, size: tuple[int, int], num_classes: int, rounds: int, count: int
) -> dict[str, object]:
    images = label_maps(kind, size=size, num_classes=num_classes, count=count)
    calls = contenders(num_classes)
    results = {name: call(images) for name, call in calls.items()}  # also the warm-up
    different = [name for name, found in results.items() if not torch.equal(found, results[OURS])]
    if different:
        raise SystemExit(f"{kind}, {num_classes} classes: {different} and {OURS} differ")
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            call(images)
            times[name].append((time.perf_counter() - begin) / count)
    own = times[OURS]
    peers = {name: values for name, values in times.items() if name != OURS}
    return {
        "maps": kind,
        "num_classes": num_classes,
        "pixels_counted": int(results[OURS].sum()),
        "equal": True,
        "ms_per_image": {name: round(1e3 * statistics.median(values), 2) for name, values in times.items()},
        "ratio": {
            name: round(statistics.median(peer / ours for peer, ours in zip(values, own, strict=True)), 2)
            for name, values in peers.items()
        },
        "ratio_of_minima": {name: round(min(values) / min(own), 2) for name, values in peers.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 2048), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--classes", type=int, nargs="+", default=[19, 150])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    height, width = options.size
    rows = [
        measure(kind, size=(height, width), num_classes=classes, rounds=options.rounds, count=options.images)
        for classes in options.classes
        for kind in ("regions", "noise")
    ]
    document = {"size": [height, width], "threads": options.threads, "torch": torch.__version__, "rows": rows}
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
