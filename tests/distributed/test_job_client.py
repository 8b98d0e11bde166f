"""What a job API, or a proxy before it, may answer: refusals end a command, outages are waited out."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from segsweep.distributed import job_logs
from segsweep.distributed.job_client import ClusterUnreachable, JobClient
from segsweep.distributed.job_logs import LogFollower
from segsweep.errors import EnvironmentProblem, InvalidInput

JOB = "/api/jobs/one"
ENDED = {"type": "SUBMISSION", "submission_id": "one", "status": "SUCCEEDED", "entrypoint": "x"}
Answer = tuple[int, str]
CUT_OFF: Answer = (200, "")  # told as 99 bytes, of which none come
PROXY_PAGE: Answer = (200, "<html>one moment, please</html>")


@contextmanager
def _server(*answers: Answer) -> Iterator[str]:
    """Address of a job API that gives these answers about one job, the last one from then on."""
    given = list(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer: Answer = (404, "nothing here")
            if self.path == "/api/version":
                answer = (200, json.dumps({"ray_version": "2.60.0", "version": "4"}))
            elif self.path == JOB:
                answer = given.pop(0) if len(given) > 1 else given[0]
            elif self.path == "/api/jobs/":
                answer = (200, "[]")
            elif self.path == f"{JOB}/logs":
                answer = (200, json.dumps({"logs": "all of it"}))
            status, text = answer
            self.send_response(status)
            self.send_header("Content-Length", "99" if answer is CUT_OFF else str(len(text)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((500, "Traceback: no agent yet"), "500 Internal Server Error: Traceback: no agent yet"),
        ((502, "<html>bad gateway</html>"), "502 Bad Gateway"),
        ((503, ""), "503 Service Unavailable"),
        (CUT_OFF, "no proper answer"),
        (PROXY_PAGE, "no proper answer"),
    ],
)
def test_a_server_that_cannot_answer_now_may_later(answer: Answer, told: str) -> None:
    with _server(answer) as address, pytest.raises(ClusterUnreachable, match=told) as unreachable:
        JobClient(address).job("one")
    assert address in str(unreachable.value) and "try again" in str(unreachable.value)


def test_a_refusal_is_told_as_one() -> None:
    with (
        _server((400, "the job is not of this kind")) as address,
        pytest.raises(EnvironmentProblem, match=r"refused: .*not of this kind") as refused,
    ):
        JobClient(address).job("one")
    assert not isinstance(refused.value, ClusterUnreachable)


def test_a_job_that_is_not_there_is_a_mistake_of_the_user() -> None:
    with _server((404, "one does not exist")) as address, pytest.raises(InvalidInput, match="no such job"):
        JobClient(address).job("one")


def test_a_job_is_followed_through_a_restart_of_the_head_or_its_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(job_logs, "PAUSE_S", 0.01)
    written: list[str] = []
    said: list[str] = []
    with _server((503, "starting"), CUT_OFF, PROXY_PAGE, (200, json.dumps(ENDED))) as address:
        follower = LogFollower(JobClient(address), "one", write=written.append, say=said.append)
        assert follower.follow().status == "succeeded"
    assert "".join(written) == "all of it"
    assert [line.split(";")[0].split(" after")[0] for line in said] == ["connection lost", "connected again"]
