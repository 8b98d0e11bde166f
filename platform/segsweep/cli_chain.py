"""What ``segsweep run`` does with jobs that have no command of their own: prepare, pseudo_labels, chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segsweep.cli_output import print_json, print_shards, say

if TYPE_CHECKING:
    from segsweep.jobs.run_chain import ChainResult
    from segsweep.jobs.run_pseudo_labels import PseudoLabelsResult


def run_kind(kind: str, job: str, json_: bool, resume: str | None, overrides: list[str]) -> None:
    """Run a job of one of these kinds and print what came out."""
    from segsweep import api

    if kind == "prepare":
        print_shards(api.run_prepare(job, overrides=overrides, say=say), json_)
    elif kind == "pseudo_labels":
        labelled = api.label(job, overrides=overrides, resume=resume, say=say)
        print_json(labelled.to_json()) if json_ else _print_labelled(labelled)
    else:
        chain = api.run_chain(job, overrides=overrides, resume=resume, say=say)
        print_json(chain.to_json()) if json_ else _print_chain(chain)


def _print_labelled(result: PseudoLabelsResult) -> None:
    document = result.to_json()
    print(f"{document['shards']}: {document['images']} images")
    print(f"labelled    {100 * result.labelled_share:.1f} % of the pixels, the others are void")
    total = max(sum(document["class_histogram"]), 1)
    for name, count in zip(document["class_names"], document["class_histogram"], strict=True):
        print(f"  {name:<24}{100 * count / total:6.2f} %")


def _print_chain(result: ChainResult) -> None:
    for step in result.steps:
        score = step.result.get("miou")
        reached = f"mIoU {100 * score:.2f} %" if isinstance(score, float) else ""
        print(f"{step.name:<12}{step.kind:<15}{reached}{' (finished before)' if step.again else ''}")
        for output, path in step.outputs.items():
            print(f"  {output:<10}{path}")
    print(f"records     {result.folder}")
