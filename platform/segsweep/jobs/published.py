"""The published figures that a sweep shows beside its own."""

from __future__ import annotations

from segsweep.jobs.builtin import builtin_folder
from segsweep.jobs.spec import SweepJob
from segsweep.search.load import load_space
from segsweep.search.space import SearchSpace
from segsweep.tracking.baselines import ARTIFACT, published_baselines, to_text


def published_artifacts(job: SweepJob, space: SearchSpace, *, size: tuple[int, int]) -> dict[str, str]:
    """Artifact name -> text: what papers print of the method; empty if the job wants none or there is none.

    Args:
        job: With ``tracking.baselines``.
        space: The space of the sweep; its own seeds may carry published figures, too.
        size: Height and width of the sweep's images in pixels.
    """
    if not job.tracking.baselines:
        return {}
    builtin = builtin_folder("search_spaces") / f"{space.method}.yaml"
    spaces = [load_space(builtin), space] if builtin.is_file() else [space]
    found = published_baselines(spaces, data=job.data.source)
    return {ARTIFACT: to_text(found, data=job.data.source, size=size)} if found else {}
