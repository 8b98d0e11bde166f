"""Finds the real data, where there are any."""

from __future__ import annotations

from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def camvid_root() -> Path:
    root = _ROOT.parent / "shared" / "data" / "camvid"
    if not root.is_dir():
        pytest.skip(f"CamVid is not at {root}: put the SegNet layout there to run the tests on real data")
    return root
