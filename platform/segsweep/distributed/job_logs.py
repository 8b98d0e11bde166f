"""Follow what a job on a cluster prints, through lost connections, to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import aiohttp

from segsweep.distributed.job_client import ClusterJob, ClusterUnreachable, JobClient

SILENCE_S = 60.0  # after this a stream may be dead without knowing it: look at the job and begin a new one
PAUSE_S = 1.0
LONGEST_PAUSE_S = 15.0


class LogFollower:
    """Writes a job's log once, however often the stream of it breaks.

    Args:
        client: The cluster.
        job_id: The job.
        write: Takes the log's text piece by piece.
        say: Takes one line of news at a time: that the connection was lost, that it is back.
    """

    def __init__(
        self, client: JobClient, job_id: str, *, write: Callable[[str], None], say: Callable[[str], None]
    ) -> None:
        self._client, self._job_id = client, job_id
        self._write, self._say = write, say
        self._written = 0  # characters of the log
        self._lost_at: float | None = None

    def follow(self, *, patience_s: float = 600.0, silence_s: float = SILENCE_S) -> ClusterJob:
        """Follow to the job's end.

        Args:
            patience_s: How long to try again while the cluster does not answer.
            silence_s: How long a stream may say nothing before it is replaced.

        Returns:
            The job after its end.

        Raises:
            ClusterUnreachable: If the cluster did not answer for that long; the job may still run.
            InvalidInput: If the cluster does not know the job any more.
        """
        pause = PAUSE_S
        while True:
            try:
                asyncio.run(self._stream(silence_s))
                job = self._client.job(self._job_id)
                self._found_again()
                if job.has_ended:
                    self._take_piece(self._client.logs(self._job_id), 0)
                    return job
                pause = PAUSE_S
            except ClusterUnreachable as error:
                self._note_loss(error, patience_s)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            time.sleep(pause)

    def _note_loss(self, error: ClusterUnreachable, patience_s: float) -> None:
        """Say once that the connection is gone; give up in the end."""
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            self._say("connection lost; the job goes on, trying to see it again")
        lost_for = time.monotonic() - self._lost_at
        if lost_for > patience_s:
            raise ClusterUnreachable(
                f"no answer for {lost_for:.0f} s: {error}. The job may still run; see it again with: "
                f"segsweep logs {self._job_id} --follow"
            ) from error

    def _found_again(self) -> None:
        if self._lost_at is not None:
            self._say(f"connected again after {time.monotonic() - self._lost_at:.0f} s")
            self._lost_at = None

    async def _stream(self, silence_s: float) -> None:
        """Write what the stream brings beyond what was written, until it ends, breaks or falls silent."""
        begin = 0
        options = self._client.stream_options()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        try:
            async with (
                aiohttp.ClientSession(headers=options["headers"], timeout=timeout) as session,
                session.ws_connect(
                    f"{self._client.address}/api/jobs/{self._job_id}/logs/tail",
                    ssl=options["ssl"] if options["ssl"] is not None else True,
                    max_msg_size=0,
                ) as stream,
            ):
                self._found_again()
                while (message := await stream.receive(timeout=silence_s)).type is aiohttp.WSMsgType.TEXT:
                    piece = message.data
                    self._take_piece(piece, begin)
                    begin += len(piece)
        except (TimeoutError, aiohttp.ClientError, OSError):
            return  # asking for the job tells whether the cluster is still there

    def _take_piece(self, piece: str, begin: int) -> None:
        """Write the part of a piece that lies behind what was written; ``begin`` is its place in the log."""
        new = piece[max(0, self._written - begin) :]
        if new:
            self._write(new)
            self._written += len(new)
