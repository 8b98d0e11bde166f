"""Images per second of our loader against torch's DataLoader with torchvision v2, on the same PNG files.

    python benchmarks/data_speed.py [--root CAMVID] [--images 160] [--crop 512 512] [--rounds 5]

Both do the published recipe on one core and in one process: random resize (0.5 to 2), crop, left-right flip
and photometric distortion (each step with a chance of one half), then normalised float32 images and int64
labels in batches. Rounds are interleaved, so that a drift of the machine meets all alike. The contenders:

- ``peer``: DataLoader over the files; Pillow decodes, torchvision.transforms.v2 transforms;
- ``first epoch``: our loader over the same files, which also fills its cache;
- ``cache``: a later epoch, from the decoded pixels in memory; ``shards``: from prepared Arrow shards.

Without ``--root`` it makes street scenes and writes them as PNGs. Before anything is timed, labels of both
sides are compared on equal windows: every pixel must agree (see ``labels_equal``). Prints one JSON document;
``ratio`` is the median over the rounds of our images per second over the peer's. ``--doctor`` also times
``check_source`` per 1,000 masks.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from segsweep.data.decoded import DecodedDataset
from segsweep.data.doctor import check_source
from segsweep.data.interface import Source
from segsweep.data.loader import TrainLoader
from segsweep.data.photometric import PhotometricDistortion
from segsweep.data.resampling import CropWindow, nearest_crop
from segsweep.data.shards import prepare
from segsweep.data.sources import open_source
from segsweep.data.sources.camvid import open_camvid
from segsweep.data.transforms import TrainTransform
from segsweep.labels import IGNORE_INDEX
from segsweep.torchvision_compat import ensure_torchvision

ensure_torchvision()
from torchvision import tv_tensors  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VOID = 11  # of CamVid's files
SCALES = (0.5, 2.0)
WINDOWS = 40
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
PEER, FIRST, CACHE, SHARDS = "peer", "first epoch", "cache", "shards"


class PngPairs(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """CamVid as one writes it down with torchvision: open, make tv_tensors, transform."""

    def __init__(self, pairs: list[tuple[Path, Path]], crop: tuple[int, int], *, photometric: bool) -> None:
        self.pairs = pairs
        with Image.open(pairs[0][0]) as first:
            size = first.size[1], first.size[0]
        steps: list[Any] = [
            v2.ScaleJitter(size, scale_range=SCALES, antialias=False),  # as ours
            v2.RandomCrop(
                crop, pad_if_needed=True, fill={tv_tensors.Image: 124, tv_tensors.Mask: IGNORE_INDEX}
            ),
            v2.RandomHorizontalFlip(),
            *([v2.RandomPhotometricDistort()] if photometric else []),
            v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64}, scale=True),
            v2.Normalize(MEAN, STD),
        ]
        self.transform = v2.Compose(steps)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image_path, mask_path = self.pairs[index]
        with Image.open(image_path) as picture:
            image = tv_tensors.Image(v2.functional.pil_to_tensor(picture.convert("RGB")))
        with Image.open(mask_path) as picture:
            ids = v2.functional.pil_to_tensor(picture)[0]
        ids[ids == VOID] = IGNORE_INDEX
        return self.transform(image, tv_tensors.Mask(ids))


def write_pngs(root: Path, images: int, size: tuple[int, int]) -> None:
    """Street scenes in CamVid's layout."""
    options = {"train": images, "val": 1, "height": size[0], "width": size[1]}
    source = open_source("synthetic", root=None, options=options)
    for split in source.splits():
        for folder in (root / split, root / f"{split}annot"):
            folder.mkdir(parents=True)
        for key in source.keys(split):
            sample = source.load(split, key)
            Image.fromarray(sample.image).save(root / split / f"{key}.png")
            ids = np.where(sample.labels == IGNORE_INDEX, VOID, sample.labels).astype(np.uint8)
            Image.fromarray(ids).save(root / f"{split}annot" / f"{key}.png")


def labels_equal(source: Source, crop: tuple[int, int]) -> dict[str, float]:
    """Compare nearest resizing, cropping and flipping on random windows.

    Where a target pixel's centre falls exactly between two source pixels, both are nearest: we take the
    second one, torch's float arithmetic one or the other. Everywhere else all labels must agree.
    """
    generator = np.random.default_rng(0)
    keys = source.keys("train")
    different, pixels = 0, 0
    for count in range(WINDOWS):
        labels = source.load("train", keys[count % len(keys)]).labels
        factor = generator.uniform(*SCALES)
        height, width = (round(side * factor) for side in labels.shape)
        top, left = (
            int(generator.integers(0, max(1, side - kept + 1)))
            for side, kept in zip((height, width), crop, strict=True)
        )
        flip = bool(count % 2)
        window = CropWindow(resized=(height, width), top=top, left=left, crop=crop, flip=flip)
        peer = v2.functional.resize(
            tv_tensors.Mask(torch.from_numpy(labels.copy())[None]),
            [height, width],
            interpolation=v2.InterpolationMode.NEAREST_EXACT,
        )[..., top : top + crop[0], left : left + crop[1]]
        if flip:
            peer = v2.functional.horizontal_flip(peer)
        unequal = nearest_crop(labels, window) != peer[0].numpy()
        tied = between(window.rows(), labels.shape[0], height)[:, None] | between(
            window.columns(), labels.shape[1], width
        )
        if (unequal & ~tied).any():
            raise SystemExit(f"labels differ in window {window}")
        different, pixels = different + int(unequal.sum()), pixels + unequal.size
    return {"windows": WINDOWS, "unequal": 0, "unequal_share_where_both_are_nearest": different / pixels}


def between(targets: NDArray[np.int64], source: int, resized: int) -> NDArray[np.bool_]:
    """Whether a target pixel's centre lies on the border of two source pixels."""
    return (2 * targets + 1) * source % (2 * resized) == 0


def seconds(batches: Iterable[Any], clock: str) -> float:
    now = CLOCKS[clock]
    begin = now()
    for _ in batches:
        pass
    return now() - begin


def doctor_seconds(source: Source) -> float:
    """Seconds for a thousand masks."""
    begin = time.perf_counter()
    findings = check_source(source)
    taken = time.perf_counter() - begin
    for finding in findings:
        print(finding, file=sys.stderr)
    return 1000 * taken / sum(len(source.keys(split)) for split in source.splits())


def contenders(args: argparse.Namespace, root: Path, scratch: Path) -> dict[str, Callable[[int], float]]:
    """Seconds of an epoch by contender and round."""
    source = open_camvid(root)
    pairs = source.files["train"].pairs
    chosen = [(pair.image, pair.mask) for pair in pairs.values()][: args.images]
    transform = TrainTransform(
        scale_range=SCALES,
        crop=tuple(args.crop),
        photometric=None if args.plain else PhotometricDistortion(),
    )
    peer = PngPairs(chosen, tuple(args.crop), photometric=not args.plain)
    keys = source.keys("train")[: args.images]

    def ours(dataset: Any, round_: int) -> float:
        loader = TrainLoader(dataset, batch_size=args.batch, transform=transform, seed=0)
        return seconds(loader.epoch(round_), args.clock)

    cache = DecodedDataset(source, "train", keys=keys)
    ours(cache, 0)
    entries: dict[str, Callable[[int], float]] = {
        PEER: lambda round_: seconds(
            DataLoader(peer, batch_size=args.batch, shuffle=True, drop_last=True), args.clock
        ),
        FIRST: lambda round_: ours(DecodedDataset(source, "train", keys=keys), round_),
        CACHE: lambda round_: ours(cache, round_),
    }
    if args.images >= len(pairs):
        shards = prepare(source, scratch / "shards").dataset("train")
        entries[SHARDS] = lambda round_: ours(shards, round_)
    return entries


def measure(args: argparse.Namespace, root: Path, scratch: Path) -> dict[str, Any]:
    entries = contenders(args, root, scratch)
    rates: dict[str, list[float]] = {name: [] for name in entries}
    images = args.images // args.batch * args.batch
    for round_ in range(args.rounds):
        for name, run in entries.items():
            rates[name].append(images / run(round_))
    figures: dict[str, Any] = {}
    for name, values in rates.items():
        figures[name] = {"images_per_second": statistics.median(values), "best": max(values)}
        if name != PEER:
            ratios = [our / peer for our, peer in zip(values, rates[PEER], strict=True)]
            figures[name] |= {
                "ratio": statistics.median(ratios),
                "ratio_of_bests": max(values) / max(rates[PEER]),
                "ratios": [min(ratios), max(ratios)],
            }
    return figures


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="CamVid in the SegNet layout; default: made-up scenes")
    parser.add_argument("--images", type=int, default=160, help="at most so many of the training images")
    parser.add_argument("--size", type=int, nargs=2, default=[360, 480], help="of made-up scenes")
    parser.add_argument("--crop", type=int, nargs=2, default=[512, 512], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu: where others work too")
    parser.add_argument("--plain", action="store_true", help="without photometric distortion")
    parser.add_argument("--doctor", action="store_true", help="also time the doctor of data sets")
    parser.add_argument("--out", type=Path, help="also write the document to this file")
    return parser.parse_args()


def main() -> None:
    args = parse()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        root = args.root or Path(scratch) / "scenes"
        if args.root is None:
            write_pngs(root, args.images, tuple(args.size))
        source = open_source("camvid", root=root)
        args.images = min(args.images, len(source.keys("train")))
        document: dict[str, Any] = {
            "torch": torch.__version__,
            "cores": 1,
            "clock": args.clock,
            "data": "made-up scenes" if args.root is None else "given",
            "images": args.images,
            "crop": args.crop,
            "photometric": not args.plain,
            "labels": labels_equal(source, tuple(args.crop)),
            **measure(args, root, Path(scratch)),
        }
        if args.doctor:
            document["doctor_seconds_per_1000_masks"] = doctor_seconds(source)
    text = json.dumps(document, indent=1)
    print(text)
    if args.out is not None:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
