"""Token sharing against its own host: Segmenter ViT-S at 512x512 with and without CTS, policy included.

    python benchmarks/token_sharing_speed.py [--preset cts-s] [--size 512 512] [--batch 1] [--device cuda]

Host and CTS have the same weights and get the same images, in rounds one after the other, so that a drift of
the machine meets both. Prints one JSON document. ``gain`` is the median over the rounds of the host's time
over that of CTS: above 1, sharing pays. ``selection_share`` is the time of ranking, gathering and un-sharing
alone, over that of the whole CTS model.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segsweep.models.layers.superpatches import select_superpatches, share, unshare
from segsweep.models.methods.cts import PRESETS
from segsweep.models.methods.cts_parts import CTSSharing

CLASSES = 150  # ADE20K
PATCH = 16


def seconds(work: Callable[[], Any], device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def build(preset: str, *, shared: bool) -> nn.Module:
    config = PRESETS[preset]
    if not shared:
        config = config.model_copy(update={"sharing": CTSSharing(shared_superpatches=0)})
    torch.manual_seed(0)
    return config.build(CLASSES).eval()


def predict(model: nn.Module, images: Tensor) -> Tensor:
    return model(images).semantic_logits(tuple(images.shape[-2:])).argmax(1)  # type: ignore[no-any-return]


def selection_work(model: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    """What sharing adds besides policy and half-size patches, on tensors of the right sizes."""
    grid = (images.shape[-2] // PATCH, images.shape[-1] // PATCH)
    count = model.encoder.amount.count(grid)
    patches, batch, dim = grid[0] * grid[1], len(images), model.encoder.backbone.dim
    margins = torch.randn(batch, patches // 4, device=images.device)
    full = torch.randn(batch, patches, dim, device=images.device)
    halves = torch.randn(batch, patches // 4, dim, device=images.device)
    logits = torch.randn(batch, patches - 3 * count, CLASSES, device=images.device)

    def work() -> Tensor:
        selection = select_superpatches(margins, count, grid)
        share(full, halves, selection)
        return unshare(logits, selection.inverse)

    return work


def measure(args: argparse.Namespace) -> dict[str, Any]:
    images = torch.randn(args.batch, 3, *args.size, device=args.device)
    images = images.contiguous(memory_format=torch.channels_last)
    host, cts = (build(args.preset, shared=shared).to(args.device) for shared in (False, True))
    work: dict[str, Callable[[], Any]] = {
        "host": lambda: host(images),
        "cts": lambda: cts(images),
        "policy": lambda: cts.encoder.policy.margins(images),
        "selection": selection_work(cts, images),
        "host_to_classes": lambda: predict(host, images),
        "cts_to_classes": lambda: predict(cts, images),
    }
    times: dict[str, list[float]] = {name: [] for name in work}
    with (
        torch.inference_mode(),
        torch.autocast(torch.device(args.device).type, torch.bfloat16, enabled=args.bfloat16),
    ):
        for round_ in range(args.warmup + args.rounds):
            for name, run in work.items():
                elapsed = seconds(run, args.device)
                if round_ >= args.warmup:
                    times[name].append(elapsed)
    medians = {name: statistics.median(values) for name, values in times.items()}
    figures: dict[str, Any] = {f"{name}_ms": 1e3 * value for name, value in medians.items()}
    for suffix in ("", "_to_classes"):
        gains = [a / b for a, b in zip(times[f"host{suffix}"], times[f"cts{suffix}"], strict=True)]
        figures[f"gain{suffix}"] = statistics.median(gains)
        figures[f"gains{suffix}"] = [min(gains), max(gains)]
    figures["policy_share"] = medians["policy"] / medians["cts"]
    figures["selection_share"] = medians["selection"] / medians["cts"]
    return figures


def parse() -> argparse.Namespace:
    shared = [name for name, config in PRESETS.items() if config.sharing.shares]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=shared, default="cts-s")
    parser.add_argument("--size", nargs=2, type=int, default=[512, 512], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bfloat16", action="store_true", help="autocast; the policy stays in float32")
    parser.add_argument("--out", type=Path, help="also write the document to this file")
    return parser.parse_args()


def main() -> None:
    args = parse()
    cuda = args.device.startswith("cuda")
    document = {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} threads",
        "preset": args.preset,
        "size": args.size,
        "batch": args.batch,
        "bfloat16": args.bfloat16,
        **measure(args),
    }
    text = json.dumps(document, indent=1)
    print(text)
    if args.out is not None:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
