"""Initial weights of a training job: looked for before anything starts, listed in the run's folder."""

from __future__ import annotations

from pathlib import Path

from segsweep.files import write_whole
from segsweep.jobs.news import Say
from segsweep.jobs.spec import WeightsSettings
from segsweep.models.interface import MethodConfig
from segsweep.training.initial_weights import InitialWeights, write_fitting

LISTING = "weights.txt"  # what was loaded and what did not fit, in full
FITTING = "initial_weights.pt"  # for the workers; removed when the training is complete


def initial_weights(settings: WeightsSettings) -> InitialWeights:
    """What a job says, for the training code."""
    return InitialWeights(path=str(settings.path), part=settings.part)


def lay_out(
    settings: WeightsSettings, config: MethodConfig, *, num_classes: int, folder: Path, say: Say
) -> Path:
    """Put what fits a design into the run's folder, where every worker finds it, and list what does not.

    Args:
        settings: The job's.
        config: The design.
        num_classes: Classes of the data.
        folder: The run's; what lies there from an earlier call is kept, what is missing is written.
        say: Takes the counts in one line.

    Returns:
        File for ``fill_from``.

    Raises:
        DataError: If the file cannot be read, or nothing in it fits.
    """
    path, names = folder / FITTING, folder / LISTING
    if not (path.is_file() and names.is_file()):  # a kill between the two leaves one, a complete training too
        report, tensors = initial_weights(settings).fitting(config, num_classes)
        if not path.is_file():
            write_fitting(path, tensors)
        if not names.is_file():
            write_whole(names, report.text())
            say(f"{report.summary}; all names in {names}")
    return path.resolve()


def listing(folder: Path) -> dict[str, str]:
    """The list as an artifact, if there is one: file name -> text."""
    path = folder / LISTING
    return {LISTING: path.read_text(encoding="utf-8")} if path.is_file() else {}
