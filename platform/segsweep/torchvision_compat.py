"""Make ``import torchvision`` work where its compiled part does not fit the installed torch.

A CPU build of torch with a CUDA wheel of torchvision (PyPI serves that pair) cannot load torchvision's
compiled operators, and then ``import torchvision``, and with it ``import timm``, fails with "operator
torchvision::nms does not exist". Only the schemas of those operators are needed: segsweep never calls them.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import torch

MATCHING = "matching"
DEFINED = "operators defined"

# torchvision/_meta_registrations.py and _autograd_registrations.py register against these two at import.
_SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


@functools.cache
def ensure_torchvision() -> str:
    """Define the missing operator schemas if torchvision's own do not load; call before importing it.

    Returns:
        ``"matching"`` if torchvision's own operators load, else ``"operators defined"``.
    """
    if _load_compiled_operators():
        return MATCHING
    library = _library()
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + schema)  # type: ignore[no-untyped-call]
    return DEFINED


def _load_compiled_operators() -> bool:
    spec = importlib.util.find_spec("torchvision")
    folder = Path(spec.origin).parent if spec is not None and spec.origin is not None else Path()
    extensions = [path for path in folder.glob("_C*") if path.suffix in {".so", ".pyd"}]
    for extension in extensions:
        try:
            torch.ops.load_library(str(extension))  # type: ignore[no-untyped-call]
        except (ImportError, OSError):  # the pair does not match: its CUDA or C++ symbols are missing
            return False
    return bool(extensions)


@functools.cache
def _library() -> torch.library.Library:
    # Kept for the life of the process: the schemas go away with the object that defined them.
    return torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
