"""Our networks against independent implementations: Swin-T, UPerNet's head, SenFormer's learners.

    python benchmarks/model_speed.py [--device cuda] [--size 512 512] [--batch 2] [--cases swin uper learners]

Every contender gets the same inputs and has the same sizes; random weights. Rounds are interleaved, so that
a drift of the machine meets all alike. Prints one JSON document; ``ratio`` is the median of the peer's time
over ours within a round (above 1, ours is faster), ``ratio_of_minima`` that of the fastest rounds, which a
busy machine disturbs least. The forward pass runs in evaluation mode without autograd, the other figure is a
forward and a backward pass in training mode.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segsweep.models.backbones import SWINS
from segsweep.models.backbones.swin import Swin
from segsweep.models.heads.learner_ensemble import LearnerEnsemble
from segsweep.models.heads.learners import LearnerShape, make_learners
from segsweep.models.heads.uper import UperHead
from segsweep.torchvision_compat import ensure_torchvision

ensure_torchvision()
import timm  # noqa: E402
from transformers import SwinBackbone, SwinConfig, UperNetConfig  # noqa: E402
from transformers.models.upernet.modeling_upernet import UperNetHead  # noqa: E402

LEVELS = (2, 3, 4, 5)
DROP_PATH = 0.3
CHANNELS = 512
BACKBONE_CHANNELS = {2: 256, 3: 512, 4: 1024, 5: 2048}  # ResNet-50
CLASSES = 150  # ADE20K
BLOCKS = 6
HEADS = 8
OURS = "ours"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Contenders, ours first, each called with ``inputs``; they return tensors in whatever container."""

    contenders: dict[str, nn.Module]
    inputs: tuple[Any, ...]
    adapt: dict[str, Callable[..., Any]]

    def call(self, name: str) -> Any:
        return self.adapt.get(name, lambda model, *inputs: model(*inputs))(
            self.contenders[name], *self.inputs
        )


def swin_case(args: argparse.Namespace) -> Case:
    config = SwinConfig(
        image_size=args.size[0],
        embed_dim=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        drop_path_rate=DROP_PATH,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    peer = timm.create_model(
        "swin_tiny_patch4_window7_224",
        pretrained=False,
        features_only=True,
        img_size=tuple(args.size),
        drop_path_rate=DROP_PATH,
    )
    images = torch.randn(args.batch, 3, *args.size, device=args.device)
    return Case(
        contenders={
            OURS: Swin(SWINS["swin_tiny"], levels=LEVELS),
            "timm": peer,
            "transformers": SwinBackbone(config),
        },
        inputs=(images,),
        adapt={"transformers": lambda model, images: model(images).feature_maps},
    )


def pyramid(args: argparse.Namespace, channels: dict[int, int]) -> dict[int, Tensor]:
    """Features of every level, in the layout in which backbones give them."""
    maps = {}
    for level, width in channels.items():
        height, wide = (-(-pixels // 2**level) for pixels in args.size)
        features = torch.randn(args.batch, width, height, wide, device=args.device)
        maps[level] = features.contiguous(memory_format=torch.channels_last)
    return maps


def uper_case(args: argparse.Namespace) -> Case:
    config = UperNetConfig(hidden_size=CHANNELS, num_labels=CLASSES, pool_scales=[1, 2, 3, 6])
    return Case(
        contenders={
            OURS: UperHead(BACKBONE_CHANNELS, channels=CHANNELS, num_classes=CLASSES),
            "transformers": UperNetHead(config, list(BACKBONE_CHANNELS.values())),
        },
        inputs=(pyramid(args, BACKBONE_CHANNELS),),
        adapt={"transformers": lambda model, maps: model(list(maps.values()))},
    )


class PlainLearner(nn.Module):
    """A learner as one writes it down from the paper: softmax(q k^T / sqrt(d)) v, block after block."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.zeros(1, CLASSES, CHANNELS))
        self.norms = nn.ModuleList(nn.LayerNorm(CHANNELS) for _ in range(5))
        self.cross = nn.ModuleList(nn.Linear(CHANNELS, CHANNELS) for _ in range(4))
        self.self_attention = nn.ModuleList(nn.Linear(CHANNELS, CHANNELS) for _ in range(4))
        self.mlp = nn.Sequential(
            nn.Linear(CHANNELS, 4 * CHANNELS), nn.GELU(), nn.Linear(4 * CHANNELS, CHANNELS)
        )

    def forward(self, features: Tensor) -> Tensor:
        batch, _, height, width = features.shape
        tokens = self.norms[0](features.flatten(2).transpose(1, 2))
        queries = self.queries.expand(batch, -1, -1)
        for _ in range(BLOCKS):
            queries = queries + self.attend(self.cross, self.norms[1](queries), tokens)
            normed = self.norms[2](queries)
            queries = queries + self.attend(self.self_attention, normed, normed)
            queries = queries + self.mlp(self.norms[3](queries))
        scores = self.norms[4](queries) @ tokens.transpose(1, 2)
        return scores.view(batch, CLASSES, height, width)

    @staticmethod
    def attend(linears: nn.ModuleList, queries: Tensor, tokens: Tensor) -> Tensor:
        def heads(projected: Tensor) -> Tensor:
            return projected.view(*projected.shape[:2], HEADS, -1).transpose(1, 2)

        query, key, value = heads(linears[0](queries)), heads(linears[1](tokens)), heads(linears[2](tokens))
        weights = (query @ key.transpose(2, 3) * query.shape[-1] ** -0.5).softmax(-1)
        return linears[3]((weights @ value).transpose(1, 2).flatten(2))


class PlainEnsemble(nn.Module):
    """One plain learner a level; softmax of the enlarged logits, averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.learners = nn.ModuleList(PlainLearner() for _ in LEVELS)

    def forward(self, maps: dict[int, Tensor]) -> list[Tensor]:
        size = maps[LEVELS[0]].shape[-2:]
        logits = [
            nn.functional.interpolate(learner(maps[level]), size=size, mode="bilinear")
            for level, learner in zip(LEVELS, self.learners, strict=True)
        ]
        merged = sum(one.softmax(1) for one in logits) / len(logits)
        merged = merged.clamp_min(1e-15).log()
        return [merged, *logits] if self.training else [merged]


def learner_case(args: argparse.Namespace) -> Case:
    shape = LearnerShape(channels=CHANNELS, num_heads=HEADS, num_blocks=BLOCKS)
    learners = make_learners(len(LEVELS), num_classes=CLASSES, shape=shape)
    return Case(
        contenders={OURS: LearnerEnsemble(LEVELS, learners), "straightforward": PlainEnsemble()},
        inputs=(pyramid(args, dict.fromkeys(LEVELS, CHANNELS)),),
        adapt={OURS: lambda model, maps: ensemble_tensors(model(maps))},
    )


def ensemble_tensors(output: Any) -> list[Tensor]:
    return [output.logits, *(output.learner_logits or ())]


CASES: dict[str, Callable[[argparse.Namespace], Case]] = {
    "swin": swin_case,
    "uper": uper_case,
    "learners": learner_case,
}


def tensors(output: Any) -> Iterable[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        yield from output.values()
    else:
        yield from output


def finish(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def seconds(case: Case, name: str, args: argparse.Namespace, *, backward: bool) -> float:
    case.contenders[name].zero_grad(set_to_none=True)
    dtype = torch.bfloat16
    with torch.autocast(torch.device(args.device).type, dtype=dtype, enabled=args.bfloat16):
        finish(args.device)
        begin = time.perf_counter()
        if backward:
            loss = torch.stack([one.float().mean() for one in tensors(case.call(name))]).sum()
        else:
            with torch.inference_mode():
                case.call(name)
    if backward:
        loss.backward()
    finish(args.device)
    return time.perf_counter() - begin


def measure(case: Case, args: argparse.Namespace, *, backward: bool) -> dict[str, Any]:
    times: dict[str, list[float]] = {name: [] for name in case.contenders}
    for model in case.contenders.values():
        model.to(args.device, memory_format=torch.channels_last).train(backward)
    for _ in range(args.rounds + args.warmup):
        for name in case.contenders:
            times[name].append(seconds(case, name, args, backward=backward))
    times = {name: values[args.warmup :] for name, values in times.items()}
    figures: dict[str, Any] = {}
    for name, values in times.items():
        figures[name] = {"median_ms": statistics.median(values) * 1e3, "min_ms": min(values) * 1e3}
        if name != OURS:
            ratios = [peer / our for peer, our in zip(values, times[OURS], strict=True)]
            figures[name] |= {
                "ratio": statistics.median(ratios),
                "ratio_of_minima": min(values) / min(times[OURS]),
                "ratios": [min(ratios), max(ratios)],
            }
    return figures


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--size", nargs=2, type=int, default=[512, 512], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=2, help="above 1: pooling to one cell has a batch norm")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bfloat16", action="store_true", help="autocast")
    parser.add_argument("--passes", nargs="+", choices=["forward", "train"], default=["forward", "train"])
    parser.add_argument("--out", type=Path, help="also write the document to this file")
    return parser.parse_args()


def main() -> None:
    args = parse()
    torch.manual_seed(0)
    device = (
        torch.cuda.get_device_name()
        if args.device.startswith("cuda")
        else f"{torch.get_num_threads()} threads"
    )
    document: dict[str, Any] = {
        "torch": torch.__version__,
        "timm": timm.__version__,
        "device": device,
        "size": args.size,
        "batch": args.batch,
        "bfloat16": args.bfloat16,
    }
    for name in args.cases:
        case = CASES[name](args)
        document[name] = {
            "forward" if kind == "forward" else "forward and backward": measure(
                case, args, backward=kind == "train"
            )
            for kind in args.passes
        }
    text = json.dumps(document, indent=1)
    print(text)
    if args.out is not None:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
