"""Importing torchvision beside a torch that its compiled part was not built for."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from segsweep import torchvision_compat
from segsweep.torchvision_compat import ensure_torchvision


def test_torchvision_and_timm_import_afterwards() -> None:
    program = (
        "from segsweep.torchvision_compat import ensure_torchvision\n"
        "print(ensure_torchvision())\n"
        "import timm.models.efficientnet, torchvision.transforms.v2\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() in {"matching", "operators defined"}


def test_both_operators_exist_afterwards() -> None:
    ensure_torchvision()
    assert hasattr(torch.ops.torchvision, "nms")


def test_asking_again_gives_the_same_answer() -> None:
    assert ensure_torchvision() == ensure_torchvision()


def test_a_compiled_part_that_does_not_load_is_a_mismatch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(path: str) -> None:
        raise OSError(f"{path}: undefined symbol")

    monkeypatch.setattr(torch.ops, "load_library", refuse)
    assert torchvision_compat._load_compiled_operators() is False
