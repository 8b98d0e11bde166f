"""``cluster.yaml`` against Ray's own schema."""

from __future__ import annotations

from pathlib import Path

from ray.autoscaler._private.util import prepare_config, validate_config
from ruamel.yaml import YAML


def test_the_cluster_file_is_what_ray_up_accepts() -> None:
    config = YAML(typ="safe").load((Path(__file__).parents[1] / "cluster.yaml").read_text())
    validate_config(prepare_config(config))
