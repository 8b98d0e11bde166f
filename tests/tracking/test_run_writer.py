"""How many calls a run costs, and that writing twice does not change it."""

from __future__ import annotations

from typing import Any

import pytest

from segsweep.tracking.run_writer import RunWriter
from segsweep.tracking.store import open_client


class CountingClient:
    """A real client that counts its writes, and may refuse some."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.batches = 0
        self.refuse = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def log_batch(self, *args: Any, **kwargs: Any) -> None:
        if self.refuse:
            self.refuse -= 1
            raise ConnectionError("the store is away")
        self.batches += 1
        self._client.log_batch(*args, **kwargs)


@pytest.fixture
def client(store_uri: str) -> CountingClient:
    return CountingClient(open_client(store_uri))


def new_run(client: CountingClient) -> RunWriter:
    run = client.create_run("0")
    return RunWriter.reopen(client, run, stepped=())


def test_metrics_params_and_tags_go_in_one_call(client: CountingClient) -> None:
    writer = new_run(client)
    writer.metrics({"val_miou": 0.5, "train_loss": 1.0}, step=1, timestamp_ms=1)
    writer.params({"neck.channels": 64})
    writer.tags({"segsweep.status": "running"})
    writer.flush()
    assert client.batches == 1
    data = client.get_run(writer.run_id).data
    assert (data.metrics, data.params) == ({"val_miou": 0.5, "train_loss": 1.0}, {"neck.channels": "64"})
    assert data.tags["segsweep.status"] == "running"


def test_nothing_new_costs_no_call(client: CountingClient) -> None:
    writer = new_run(client)
    for _ in range(2):
        writer.metrics({"val_miou": 0.5}, step=1, timestamp_ms=1)
        writer.tags({"pareto.front": "false"})
        writer.flush()
    assert client.batches == 1


def test_large_writes_are_split_at_the_limits_of_mlflow(client: CountingClient) -> None:
    writer = new_run(client)
    writer.params({f"axis{index}": index for index in range(250)})
    for step in range(1200):
        writer.metrics({"val_miou": step / 1200}, step=step, timestamp_ms=step)
    writer.flush()
    data = client.get_run(writer.run_id).data
    assert len(data.params) == 250
    assert len(client.get_metric_history(writer.run_id, "val_miou")) == 1200


def test_what_could_not_be_sent_is_kept_and_sent_later(client: CountingClient) -> None:
    writer = new_run(client)
    writer.metrics({"val_miou": 0.5}, step=1, timestamp_ms=1)
    client.refuse = 1
    with pytest.raises(ConnectionError):
        writer.flush()
    assert writer.pending == 1
    writer.flush()
    assert writer.pending == 0
    assert client.get_run(writer.run_id).data.metrics == {"val_miou": 0.5}


def test_a_reopened_run_knows_what_it_holds(client: CountingClient) -> None:
    writer = new_run(client)
    writer.metrics({"val_miou": 0.4}, step=1, timestamp_ms=1)
    writer.metrics({"val_miou": 0.5}, step=2, timestamp_ms=2)
    writer.flush()
    again = RunWriter.reopen(client, client.get_run(writer.run_id), stepped=("val_miou",))
    again.metrics({"val_miou": 0.4}, step=1, timestamp_ms=9)
    again.metrics({"val_miou": 0.6}, step=3, timestamp_ms=9)
    assert again.pending == 1
