"""Which failed writes wait for the store, and which are left out so that the others go on."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST

from segsweep.errors import EnvironmentProblem
from segsweep.tracking.failures import first_line, is_refusal
from segsweep.tracking.landing import landing_page

REFUSED = [
    MlflowException("Invalid metric name", error_code=INVALID_PARAMETER_VALUE),
    MlflowException("Run with id=x not found", error_code=RESOURCE_DOES_NOT_EXIST),
    RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "Invalid metric name"}),
    KeyError("trials"),
    TypeError("no float"),
]
WAITING = [
    MlflowException("database is locked", error_code=INTERNAL_ERROR),
    RestException({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "busy"}),
    RestException({"error_code": "PERMISSION_DENIED", "message": "log in"}),
    # a proxy's page instead of MLflow's answer, whatever its code
    MlflowException(
        "API request to endpoint /api/2.0/mlflow/runs/log-batch failed with error code 404 != 200",
        error_code=RESOURCE_DOES_NOT_EXIST,
    ),
    ConnectionResetError("by peer"),
    OSError(28, "No space left on device"),
    EnvironmentProblem("cannot create the folder"),
]


@pytest.mark.parametrize("error", REFUSED, ids=str)
def test_an_entry_that_is_never_taken_is_left_out(error: Exception) -> None:
    assert is_refusal(error)


@pytest.mark.parametrize("error", WAITING, ids=str)
def test_what_someone_can_mend_waits(error: Exception) -> None:
    assert not is_refusal(error)


def test_a_server_that_is_away_is_told_in_a_few_words() -> None:
    error = MlflowException(
        "API request to http://10.0.0.7:5000/api/2.0/mlflow/runs/create failed with exception "
        "HTTPConnectionPool(host='10.0.0.7', port=5000): Max retries exceeded (Caused by NewConnectionError("
        '"Failed to establish a new connection: [Errno 111] Connection refused"))'
    )
    assert first_line(error) == "http://10.0.0.7:5000 does not answer (Connection refused)"
    assert first_line(ValueError("first\nsecond")) == "ValueError: first"


def test_no_password_is_told_with_a_server_that_is_away() -> None:
    error = MlflowException("API request to http://me:secret@10.0.0.7/api/2.0 failed with exception refused")
    assert "secret" not in first_line(error)
    assert "10.0.0.7 does not answer" in first_line(error)


def test_a_damaged_database_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database at all, but long enough to be read as one" * 50)
    with pytest.raises(EnvironmentProblem, match=r"cannot open the MLflow store"):
        landing_page(f"sqlite:///{tmp_path / 'mlflow.db'}")
