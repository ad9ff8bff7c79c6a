"""RQ's SimpleWorker, which has one slot: `python -m bench.programs.rq_worker URL wake|send|load JOBS SLOTS`."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading

import redis
from rq import Queue, SimpleWorker

from bench.children import say
from bench.programs.waking import called_ns, keep_busy, note, send, until_end

QUEUE = "bench"


def wake(client: redis.Redis, jobs: int) -> None:
    """Work in the main thread, as RQ must, until another one has heard the end."""

    async def end() -> None:
        await until_end(jobs)
        # Sent to the process, it may reach this thread, and the other one goes on waiting for Redis.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    worker = SimpleWorker([QUEUE], connection=client)
    threading.Thread(target=lambda: asyncio.run(end()), daemon=True).start()
    worker.work(logging_level="WARNING")
    say(called_ns)


def enqueue_for(client: redis.Redis, mode: str, amount: int) -> None:
    queue = Queue(QUEUE, connection=client)

    async def enqueue(sent_ns: int) -> None:
        queue.enqueue(note, sent_ns, result_ttl=0)

    say(asyncio.run(send(enqueue, amount)) if mode == "send" else asyncio.run(keep_busy(enqueue, amount)))


def main() -> None:
    url, mode, amount = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with redis.Redis.from_url(url) as client:
        if mode == "wake":
            wake(client, amount)
        else:
            enqueue_for(client, mode, amount)


if __name__ == "__main__":
    main()
