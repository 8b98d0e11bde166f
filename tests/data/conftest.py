"""Makes ``tests/fixtures`` importable and finds the real data, where there are any."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(_ROOT / "tests" / "fixtures"))


@pytest.fixture(scope="session")
def camvid_root() -> Path:
    root = _ROOT.parent / "shared" / "data" / "camvid"
    if not root.is_dir():
        pytest.skip(f"CamVid is not at {root}: put the SegNet layout there to run the tests on real data")
    return root
