"""Initial weights from a file: whose they are is found out by their names, what does not fit is listed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from segsweep.errors import DataError
from segsweep.models.backbones.swin import Swin
from segsweep.models.backbones.swin_weights import ORIGINS, translated_swin
from segsweep.models.backbones.token_backbone import TokenBackbone
from segsweep.models.token_weights import official_name, translated_tokens

Part = Literal["all", "backbone"]
Translated = Mapping[str, tuple[str, Tensor]]  # our name -> (their name, value in our layout)

_BACKBONES = ("backbone", "encoder.backbone", "network.backbone")  # Segmenter, TokenSegmenter, PolicyModel
# Where files keep their tensors; averaged ones are those that were validated and published.
_HOLDERS = ("average", "state_dict_ema", "model_ema", "weights", "state_dict", "model", "module", "net")
_WRAPPERS = ("module.", "_orig_mod.", "model.")  # in front of every name: DataParallel, torch.compile, others
_FOLLOWING = (  # what follows from sizes, or counts batches: neither missed nor unexpected
    "relative_position_index",
    "attn_mask",
    "relative_coords_table",
    "num_batches_tracked",
)
_SHOWN = 3  # names in one message
_HALF = 0.5


@dataclass(frozen=True, kw_only=True)
class WeightsReport:
    """What became of a file of weights.

    Attributes:
        path: The file; ``digest``: twelve hexadecimal digits of its content's SHA-256.
        origin: Whose names it has: ``segsweep``, ``timm``, ``microsoft``, ``mmseg``, ``cts``, ...
        part: What was to be filled.
        wanted: Number of tensors of that part of the model.
        loaded: Names of the model's tensors that were filled.
        resized: Of those, the ones whose positions were resized to another grid or window.
        missing: Names of the part that the file lacks; they keep their initial values.
        unexpected: Names of the file that the part has no use for.
        other_shape: Names in both, of different shapes, with both shapes; they keep their initial values.
    """

    path: str
    digest: str
    origin: str
    part: Part
    wanted: int
    loaded: tuple[str, ...]
    resized: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    other_shape: tuple[str, ...]

    @property
    def summary(self) -> str:
        """One line of news."""
        counts = f"{len(self.loaded)} of {self.wanted} tensors loaded"
        if self.resized:
            counts += f" ({len(self.resized)} resized)"
        of_part = "the model" if self.part == "all" else "the backbone"
        line = (
            f"weights {self.path} ({self.origin}): {counts} into {of_part}, {len(self.missing)} missing, "
            f"{len(self.other_shape)} of another shape, {len(self.unexpected)} of the file not used"
        )
        few = len(self.loaded) < _HALF * self.wanted and self.part == "backbone"
        return f"{line}; do they belong to this network?" if few else line

    def text(self) -> str:
        """Everything in full, for the run's folder."""
        lists = {
            "of another shape (kept their initial values)": self.other_shape,
            "missing in the file (kept their initial values)": self.missing,
            "of the file, not used": self.unexpected,
            "resized": self.resized,
            "loaded": self.loaded,
        }
        lines = [self.summary, f"sha256 {self.digest}..."]
        for title, names in lists.items():
            lines += ["", f"{len(names)} {title}", *(f"  {name}" for name in names)]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """The tensors of a file.

    Attributes:
        path: Where they were read.
        digest: Twelve hexadecimal digits of the content's SHA-256.
        tensors: By the names in the file, without wrappers in front.
    """

    path: Path
    digest: str
    tensors: Mapping[str, Tensor]


def load_weights(model: nn.Module, path: Path, *, part: Part = "all") -> WeightsReport:
    """Fill a model with the weights of a file, as far as they fit; buffers of norms included.

    Args:
        model: Loaded in place.
        path: Weights of timm's network of the same name, of an official release of Swin, ViT, DeiT, BEiT or
            CTS, or a checkpoint of segsweep of the same design; ``.safetensors`` or a file of ``torch.save``.
        part: ``all``: whatever fits; ``backbone``: only the backbone.

    Raises:
        DataError: If the file cannot be read, holds values that are not finite, or nothing in it fits.
    """
    report, fitting = match_weights(model, read_weights(path), part=part)
    check_finite(path, fitting)
    with torch.no_grad():
        model.load_state_dict({**model.state_dict(), **fitting})
    return report


def match_weights(
    model: nn.Module, weights: WeightFile, *, part: Part = "all"
) -> tuple[WeightsReport, dict[str, Tensor]]:
    """Find out whose weights these are and which of them fit; the model may be on the meta device.

    Returns:
        The report, and the tensors that fit by the model's names.

    Raises:
        DataError: If none fits; names the first ones of both sides.
    """
    prefix = backbone_prefix(model)
    everything = model.state_dict()
    wanted = {name: value for name, value in everything.items() if part == "all" or name.startswith(prefix)}
    best_origin, most = "", 0
    best: Translated = {}
    fitting: dict[str, Tensor] = {}
    for origin, translated in _readings(model, weights.tensors, prefix):
        found = _fitting(translated, wanted)
        count = sum(not name.endswith(_FOLLOWING) for name in found)
        if count > most:
            best_origin, most, best, fitting = origin, count, translated, found
    if not fitting:
        raise DataError(_nothing(weights, wanted, part))
    return _report(weights, best_origin, part, wanted=wanted, translated=best, fitting=fitting), fitting


def read_weights(path: Path) -> WeightFile:
    """Read tensors without unpickling code.

    Raises:
        DataError: If the file is missing, damaged, holds other objects than tensors and plain values, or no
            tensors at all.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file of weights; give the path of a .pt, .pth or .safetensors file")
    content = _safetensors(path) if path.suffix == ".safetensors" else _torch_file(path)
    tensors = _unwrapped(_tensors(content))
    if not tensors:
        raise DataError(f"{path}: holds no tensors by name; give a state dict or a checkpoint")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    return WeightFile(path=path, digest=digest, tensors=tensors)


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise ``DataError`` if a weight is NaN or infinite."""
    for name, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise DataError(f"{path}: {name} holds values that are not finite; take another checkpoint")


def backbone_prefix(model: nn.Module) -> str:
    """What the names of the backbone's tensors begin with, for example ``"backbone."``."""
    modules = dict(model.named_modules())
    return next(f"{name}." for name in (*_BACKBONES, "") if name in modules).removeprefix(".")


def _readings(
    model: nn.Module, tensors: Mapping[str, Tensor], prefix: str
) -> Iterator[tuple[str, Translated]]:
    """All ways to read the names; of equally good ones the first is taken."""
    backbone = model.get_submodule(prefix.removesuffix("."))
    yield "segsweep", _ours(backbone, tensors, prefix)
    if isinstance(backbone, TokenBackbone):
        theirs = {official_name(name): name for name in tensors}
        renamed = {ours: tensors[name] for ours, name in theirs.items()}
        read = _ours(backbone, renamed, prefix)
        yield "cts", {ours: (theirs[name], value) for ours, (name, value) in read.items()}
    for start in ("", "backbone.", "encoder."):
        inner = {
            name.removeprefix(start): (name, value)
            for name, value in tensors.items()
            if name.startswith(start)
        }
        for origin, translated in _of_backbone(backbone, {name: pair[1] for name, pair in inner.items()}):
            yield (
                origin,
                {
                    f"{prefix}{ours}": (inner[theirs][0] if theirs in inner else theirs, value)
                    for ours, (theirs, value) in translated.items()
                },
            )


def _ours(backbone: nn.Module, tensors: Mapping[str, Tensor], prefix: str) -> Translated:
    """Our own names; positions of a transformer may be for another crop."""
    named = {name: (name, value) for name, value in tensors.items()}
    if not isinstance(backbone, TokenBackbone):
        return named
    inner = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    resized = translated_tokens(backbone, inner)
    return named | {f"{prefix}{ours}": (f"{prefix}{name}", value) for ours, (name, value) in resized.items()}


def _of_backbone(backbone: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Translated]]:
    if isinstance(backbone, Swin):
        for origin in ORIGINS:
            yield origin, translated_swin(backbone, tensors, origin=origin)
    elif isinstance(backbone, TokenBackbone):
        yield "timm", translated_tokens(backbone, tensors)
    elif isinstance(getattr(backbone, "features", None), nn.Module):
        # imported here: 1.8 s, and a model with such a backbone has imported it already
        from segsweep.models.backbones.timm_features import TimmFeatures, translated_features

        if isinstance(backbone, TimmFeatures):
            yield from translated_features(backbone, tensors)
    else:
        yield "timm", {name: (name, value) for name, value in tensors.items()}


def _fitting(translated: Translated, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: value
        for name, (_, value) in translated.items()
        if name in wanted and value.shape == wanted[name].shape
    }


def _report(
    weights: WeightFile,
    origin: str,
    part: Part,
    *,
    wanted: Mapping[str, Tensor],
    translated: Translated,
    fitting: Mapping[str, Tensor],
) -> WeightsReport:
    used = {theirs for ours, (theirs, _) in translated.items() if ours in wanted}
    return WeightsReport(
        path=str(weights.path),
        digest=weights.digest,
        origin=origin,
        part=part,
        wanted=len(wanted),
        loaded=tuple(fitting),
        resized=tuple(
            name
            for name in fitting
            if (theirs := translated[name][0]) in weights.tensors
            and weights.tensors[theirs].shape != fitting[name].shape
        ),
        missing=tuple(name for name in wanted if name not in translated and not name.endswith(_FOLLOWING)),
        unexpected=tuple(
            sorted(name for name in weights.tensors if name not in used and not name.endswith(_FOLLOWING))
        ),
        other_shape=tuple(
            f"{name}: {tuple(value.shape)} in the file, {tuple(wanted[name].shape)} in the model"
            for name, (_, value) in translated.items()
            if name in wanted and name not in fitting
        ),
    )


def _nothing(weights: WeightFile, wanted: Mapping[str, Tensor], part: Part) -> str:
    of_part = "the model" if part == "all" else "its backbone"
    return (
        f"{weights.path}: none of its {len(weights.tensors)} tensors fits {of_part}. It begins with "
        f"{_first(weights.tensors)}; {of_part} with {_first(wanted)}. Give weights of the same network"
    )


def _first(tensors: Mapping[str, Tensor]) -> str:
    shown = [f"{name} {tuple(value.shape)}" for name, value in list(tensors.items())[:_SHOWN]]
    return ", ".join(shown) or "nothing"


def _safetensors(path: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise DataError(f"{path}: needs the package safetensors: pip install safetensors") from error
    try:
        return load_file(path)
    except Exception as error:  # of a Rust extension, of no common class
        raise DataError(f"{path}: not a readable safetensors file ({error}); download it again") from error


def _torch_file(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler meets in a foreign file
        raise DataError(f"{path}: {_why_unreadable(path, error)}") from error


def _why_unreadable(path: Path, error: Exception) -> str:
    try:
        objects = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # not even a file of torch
        objects = []
    if objects:
        return (
            f"holds Python objects ({', '.join(objects[:_SHOWN])}) beside tensors, and reading them could "
            "run code; where you trust the file, save its state dict alone"
        )
    return f"not a readable file of weights ({type(error).__name__}); download it again"


def _tensors(content: Any) -> dict[str, Tensor]:
    """The innermost mapping from names to tensors."""
    if not isinstance(content, Mapping):
        return {}
    for holder in _HOLDERS:
        inner = content.get(holder)
        if isinstance(inner, Mapping) and (found := _tensors(inner)):
            return found
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if tensors and all(name.startswith(wrapper) for name in tensors):
            return _unwrapped({name.removeprefix(wrapper): value for name, value in tensors.items()})
    return tensors
