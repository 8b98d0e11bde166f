"""A trained network in MLflow's model registry: logged once, with signature, input example and aliases."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segsweep.errors import DataError, EnvironmentProblem, InvalidInput, Problem
from segsweep.redaction import without_passwords
from segsweep.tracking import registered_model
from segsweep.tracking.failures import first_line
from segsweep.tracking.store import open_client, resolve_uri, store_errors, ui_base
from segsweep.tracking.trial_runs import SWEEP_ID, TRIAL_ID, search
from segsweep.training.model_file import TrialModel, load_model

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")
PACKAGES = ("segsweep", "torch", "torchvision", "timm", "numpy")
LOGGED_AS = "network"
WAIT_S = 60  # for the registry to have taken in the files


@dataclass(frozen=True, kw_only=True)
class RegisteredModel:
    """A version of a registered model.

    Attributes:
        name: Name in the registry.
        version: Number of the version.
        aliases: All that point to this version now.
        uri: Loads it: ``mlflow.pyfunc.load_model(uri)``.
        tracking_uri: Store in which it is registered.
        run_id: Run of the trial that trained it.
        url: Page of the version in the UI.
        is_new: False if this trial was registered under the name before.
    """

    name: str
    version: str
    aliases: tuple[str, ...]
    uri: str
    tracking_uri: str
    run_id: str
    url: str
    is_new: bool

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "name": self.name,
            "version": self.version,
            "aliases": list(self.aliases),
            "uri": self.uri,
            "tracking_uri": without_passwords(self.tracking_uri),
            "run_id": self.run_id,
            "url": self.url,
            "is_new": self.is_new,
        }


@dataclass(frozen=True, kw_only=True)
class RegistryEntry:
    """What is to be registered.

    Attributes:
        name: Name in the registry.
        file: The network, see ``training.model_file``.
        experiment: Experiment of the sweep.
        sweep_id: The sweep; ``trial_id``: the trial that trained the network.
        aliases: To point to it, for example ``max-miou``; taken from the version that had them before.
        description: Markdown for the version's page.
        tags: More facts for the version.
    """

    name: str
    file: Path
    experiment: str
    sweep_id: str
    trial_id: str
    aliases: Sequence[str]
    description: str
    tags: Mapping[str, str]


def check_name(name: str) -> None:
    """Refuse what the registry or a URI would not take; raises ``InvalidInput``."""
    if not NAME.fullmatch(name):
        message = (
            f"found {name!r}; allowed are up to 121 letters, digits, '.', '_' and '-', beginning with a "
            "letter or digit"
        )
        raise InvalidInput([Problem(where="--register", message=message)])


def register(entry: RegistryEntry, tracking_uri: str) -> RegisteredModel:
    """Log the network to its trial's run, register it and set the aliases; a second call only moves aliases.

    Args:
        entry: What and under which name.
        tracking_uri: The store in which the sweep is recorded.

    Raises:
        InvalidInput: If the name cannot be used.
        DataError: If the file is damaged, or the store has no run of the trial.
        EnvironmentProblem: If the store refuses or cannot be reached.
    """
    check_name(entry.name)
    uri = resolve_uri(tracking_uri)
    try:
        client = open_client(uri)
        with _store(uri), _no_news():
            return _register(client, entry, uri)
    except store_errors() as error:
        raise EnvironmentProblem(
            f"{without_passwords(uri)}: the model registry did not take {entry.name} ({first_line(error)}); "
            "check that the store is intact, that its server runs and has a registry"
        ) from error


def _register(client: Any, entry: RegistryEntry, uri: str) -> RegisteredModel:
    run = _trial_run(client, entry, uri)
    found = _earlier_version(client, entry)
    number = found if found is not None else _new_version(client, entry, run)
    for alias in entry.aliases:
        client.set_registered_model_alias(entry.name, alias, number)
    aliases = tuple(sorted(client.get_model_version(entry.name, number).aliases))
    best = entry.aliases[0] if entry.aliases else number
    return RegisteredModel(
        name=entry.name,
        version=number,
        aliases=aliases,
        uri=f"models:/{entry.name}@{best}" if entry.aliases else f"models:/{entry.name}/{number}",
        tracking_uri=uri,
        run_id=run.info.run_id,
        url=f"{ui_base(uri).rstrip('/')}/#/models/{entry.name}/versions/{number}",
        is_new=found is None,
    )


def _trial_run(client: Any, entry: RegistryEntry, uri: str) -> Any:
    experiment = client.get_experiment_by_name(entry.experiment)
    runs = (
        search(client, experiment.experiment_id, kind="trial", sweep_id=entry.sweep_id) if experiment else []
    )
    for run in runs:
        if run.data.tags.get(TRIAL_ID) == entry.trial_id:
            return run
    raise DataError(
        f"{without_passwords(uri)}: no run of trial {entry.trial_id} of sweep {entry.sweep_id} in experiment "
        f"{entry.experiment!r}; if records still wait, run `segsweep sync`, or give the store with --uri"
    )


def _earlier_version(client: Any, entry: RegistryEntry) -> str | None:
    for found in client.search_model_versions(f"name = '{entry.name}'"):
        if (found.tags.get(SWEEP_ID), found.tags.get(TRIAL_ID)) == (entry.sweep_id, entry.trial_id):
            return str(found.version)
    return None


def _new_version(client: Any, entry: RegistryEntry, run: Any) -> str:
    model = _log(client, load_model(entry.file), entry.file, run=run)
    if not _exists(client, entry.name):
        client.create_registered_model(entry.name)
    created = client.create_model_version(
        entry.name,
        source=model.model_uri,
        run_id=run.info.run_id,
        model_id=model.model_id,
        description=entry.description,
        tags={SWEEP_ID: entry.sweep_id, TRIAL_ID: entry.trial_id, **entry.tags},
        await_creation_for=WAIT_S,
    )
    return str(created.version)


def _exists(client: Any, name: str) -> bool:
    return any(item.name == name for item in client.search_registered_models(f"name = '{name}'"))


def _log(client: Any, trained: TrialModel, file: Path, *, run: Any) -> Any:
    """Log the network as an MLflow model that this package loads; returns MLflow's ``ModelInfo``."""
    import mlflow
    from mlflow.models import Model

    # Without a model of ours MLflow would make one in its default experiment, below the working directory.
    logged = client.create_logged_model(
        experiment_id=run.info.experiment_id, name=LOGGED_AS, source_run_id=run.info.run_id
    )
    return Model.log(
        None,
        flavor=mlflow.pyfunc,
        model_id=logged.model_id,
        run_id=run.info.run_id,
        loader_module=registered_model.__name__,
        data_path=str(file),
        signature=_signature(trained),
        input_example=_example(trained),
        pip_requirements=[f"{package}=={version(package)}" for package in PACKAGES],
        metadata={"method": trained.method, "classes": list(trained.info.class_names)},
    )


def _signature(trained: TrialModel) -> Any:
    """Fixed image size, any number of images."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    height, width = trained.size
    images = TensorSpec(np.dtype(np.uint8), (-1, height, width, 3))
    logits = TensorSpec(np.dtype(np.float32), (-1, trained.num_classes, height, width))
    return ModelSignature(inputs=Schema([images]), outputs=Schema([logits]))


def _example(trained: TrialModel) -> NDArray[np.uint8]:
    """One grey image: it is stored as text, so its digits count."""
    height, width = trained.size
    return np.full((1, height, width, 3), 9, dtype=np.uint8)


@contextmanager
def _store(uri: str) -> Iterator[None]:
    """MLflow logs and registers in its one global store: this one for a moment, then the user's again."""
    import mlflow
    from mlflow.tracking import is_tracking_uri_set

    before = mlflow.get_tracking_uri() if is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


@contextmanager
def _no_news() -> Iterator[None]:
    """MLflow advises on files that it cannot know to be right."""
    logger = logging.getLogger("mlflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
