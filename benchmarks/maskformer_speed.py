"""MaskFormer against transformers' implementation: matching, losses, and a whole training step.

    python benchmarks/maskformer_speed.py [--device cuda] [--size 512 512] [--batch 2] [--cases matching step]

Both sides get the same inputs and have the same sizes (Swin-T, 100 queries, 6 layers, 150 classes, dropout
as published); random weights. Rounds are interleaved, so that a drift of the machine meets both alike. Prints
one JSON document; ``ratio`` is the median of transformers' time over ours within a round: above 1, ours is
faster.

``matching``: six layers of predictions are assigned to the objects. ``loss``: matching and losses of six
layers, forward and backward; our side makes the masks of the objects from the labels, the other has them.
``step``: network, losses and backward.
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
from torch import Tensor

from segsweep.labels import IGNORE_INDEX
from segsweep.losses.mask_matching import (
    MaskPrediction,
    MaskWeights,
    mask_terms,
    match_queries,
    semantic_targets,
)
from segsweep.losses.per_pixel import CrossEntropy, LossTerm
from segsweep.models.methods.maskformer import PRESETS
from segsweep.torchvision_compat import ensure_torchvision

ensure_torchvision()
import transformers  # noqa: E402
from transformers import (  # noqa: E402
    DetrConfig,
    MaskFormerConfig,
    MaskFormerForInstanceSegmentation,
    SwinConfig,
)
from transformers.models.maskformer.modeling_maskformer import (  # noqa: E402
    MaskFormerHungarianMatcher,
    MaskFormerLoss,
)

CLASSES, QUERIES, LAYERS = 150, 100, 6
OBJECTS = 9  # classes in an image of ADE20K, about
Contenders = dict[str, Callable[[], Any]]


def make_labels(args: argparse.Namespace) -> Tensor:
    """Blocks of 64 pixels of ``OBJECTS`` classes; a border is not labelled."""
    rows, columns = (-(-pixels // 64) for pixels in args.size)
    chosen = torch.stack([torch.randperm(CLASSES)[:OBJECTS] for _ in range(args.batch)])
    drawn = torch.gather(chosen, 1, torch.randint(0, OBJECTS, (args.batch, rows * columns)))
    labels = drawn.view(args.batch, rows, columns).repeat_interleave(64, 1).repeat_interleave(64, 2)
    labels = labels[:, : args.size[0], : args.size[1]].contiguous()
    labels[:, :8] = IGNORE_INDEX
    return labels.to(args.device)


def make_predictions(args: argparse.Namespace) -> list[MaskPrediction]:
    height, width = (pixels // 4 for pixels in args.size)
    return [
        MaskPrediction(
            torch.randn(args.batch, QUERIES, CLASSES + 1, device=args.device, requires_grad=True),
            (3 * torch.randn(args.batch, QUERIES, height, width, device=args.device)).requires_grad_(),
        )
        for _ in range(LAYERS)
    ]


def peer_targets(labels: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    targets = semantic_targets(labels, num_classes=CLASSES, ignore_index=IGNORE_INDEX)
    return [target.masks.float() for target in targets], [target.classes for target in targets]


def total(terms: dict[str, LossTerm]) -> Tensor:
    return torch.stack([t.weight * t.loss.total / t.loss.count for t in terms.values()]).sum()


def peer_loss(args: argparse.Namespace) -> MaskFormerLoss:
    matcher = MaskFormerHungarianMatcher(cost_class=1.0, cost_mask=20.0, cost_dice=1.0)
    weights = {"loss_cross_entropy": 1.0, "loss_mask": 20.0, "loss_dice": 1.0}
    return MaskFormerLoss(CLASSES, matcher, weights, 0.1).to(args.device)


def weighted(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack([20 * loss if "mask" in name else loss for name, loss in losses.items()]).sum()


def matching(args: argparse.Namespace) -> Contenders:
    labels, predictions = make_labels(args), make_predictions(args)
    targets = semantic_targets(labels, num_classes=CLASSES, ignore_index=IGNORE_INDEX)
    masks, classes = peer_targets(labels)
    matcher = peer_loss(args).matcher

    def theirs() -> None:
        for layer in predictions:
            matcher(layer.mask_logits, layer.class_logits, masks, classes)

    return {"ours": lambda: match_queries(predictions, targets, weights=MaskWeights()), "peer": theirs}


def loss(args: argparse.Namespace) -> Contenders:
    labels, predictions = make_labels(args), make_predictions(args)
    masks, classes = peer_targets(labels)
    criterion = peer_loss(args)

    def ours() -> None:
        targets = semantic_targets(labels, num_classes=CLASSES, ignore_index=IGNORE_INDEX)
        total(mask_terms(predictions, targets, weights=MaskWeights())).backward()

    def theirs() -> None:
        last, others = predictions[-1], predictions[:-1]
        auxiliary = [
            {"masks_queries_logits": layer.mask_logits, "class_queries_logits": layer.class_logits}
            for layer in others
        ]
        weighted(criterion(last.mask_logits, last.class_logits, masks, classes, auxiliary)).backward()

    return {"ours": ours, "peer": theirs}


def step(args: argparse.Namespace) -> Contenders:
    labels = make_labels(args)
    masks, classes = peer_targets(labels)
    images = torch.randn(args.batch, 3, *args.size, device=args.device)
    config = PRESETS["maskformer-swin-t"]
    model = config.build(CLASSES).to(args.device).train()
    criterion = config.criterion(CrossEntropy())
    peer = MaskFormerForInstanceSegmentation(peer_config()).to(args.device).train()

    def ours() -> None:
        model.zero_grad(set_to_none=True)
        total(criterion(model(images), labels)).backward()

    def theirs() -> None:
        peer.zero_grad(set_to_none=True)
        last, *others = reversed(peer_layers(peer, images))
        losses = peer.criterion(**last, mask_labels=masks, class_labels=classes, auxiliary_predictions=others)
        weighted(losses).backward()

    return {"ours": ours, "peer": theirs}


def peer_layers(peer: MaskFormerForInstanceSegmentation, images: Tensor) -> list[dict[str, Tensor]]:
    """Predictions of the six layers; the peer itself would give those of the zero query too."""
    output = peer.model(images, output_hidden_states=True)
    hidden = output.transformer_decoder_hidden_states[1:LAYERS]
    norm = peer.model.transformer_module.decoder.layernorm
    states = torch.stack([norm(state) for state in hidden] + [output.transformer_decoder_last_hidden_state])
    masks = torch.einsum(
        "lbqc,bchw->lbqhw", peer.mask_embedder(states), output.pixel_decoder_last_hidden_state
    )
    layers = zip(masks, peer.class_predictor(states), strict=True)
    return [{"masks_queries_logits": mask, "class_queries_logits": classes} for mask, classes in layers]


def peer_config() -> MaskFormerConfig:
    return MaskFormerConfig(
        backbone_config=SwinConfig(
            embed_dim=96,
            depths=[2, 2, 6, 2],
            num_heads=[3, 6, 12, 24],
            window_size=7,
            drop_path_rate=0.3,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        ),
        decoder_config=DetrConfig(
            decoder_layers=LAYERS,
            num_queries=QUERIES,
            d_model=256,
            decoder_ffn_dim=2048,
            decoder_attention_heads=8,
            dropout=0.1,
            attention_dropout=0.1,
            activation_dropout=0.1,
            auxiliary_loss=False,
        ),
        num_labels=CLASSES,
    )


CASES: dict[str, Callable[[argparse.Namespace], Contenders]] = {
    "matching": matching,
    "loss": loss,
    "step": step,
}


def seconds(call: Callable[[], Any], device: str) -> float:
    finish(device)
    begin = time.perf_counter()
    call()
    finish(device)
    return time.perf_counter() - begin


def finish(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def measure(contenders: Contenders, args: argparse.Namespace) -> dict[str, Any]:
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(args.warmup + args.rounds):
        for name, call in contenders.items():
            times[name].append(seconds(call, args.device))
    kept = {name: values[args.warmup :] for name, values in times.items()}
    ratios = [peer / ours for peer, ours in zip(kept["peer"], kept["ours"], strict=True)]
    return {
        "ours_ms": statistics.median(kept["ours"]) * 1e3,
        "transformers_ms": statistics.median(kept["peer"]) * 1e3,
        "ratio": statistics.median(ratios),
        "ratios": [min(ratios), max(ratios)],
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--size", nargs=2, type=int, default=[512, 512], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="also write the document to this file")
    return parser.parse_args()


def main() -> None:
    args = parse()
    on_gpu = args.device.startswith("cuda")
    document: dict[str, Any] = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": torch.cuda.get_device_name() if on_gpu else f"{torch.get_num_threads()} threads",
        "size": args.size,
        "batch": args.batch,
    }
    for name in args.cases:
        torch.manual_seed(0)
        document[name] = measure(CASES[name](args), args)
    text = json.dumps(document, indent=1)
    print(text)
    if args.out is not None:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
