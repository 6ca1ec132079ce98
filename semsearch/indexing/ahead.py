"""One job ahead: a thread works on the next job while its owner finishes the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from threading import Event, Thread
from typing import TypeVar

from semsearch.threads import require_room_for_thread

Job = TypeVar("Job")
Done = TypeVar("Done")

_PATIENCE = 2.0
"""Seconds to wait for the thread after an interruption: it ends after its batch, if it can."""


class Abandoned(Exception):
    """Raised inside work that nobody waits for any more."""


def one_ahead(
    jobs: Iterator[Job], work: Callable[[Job, Event], Done], finish: Callable[[Job, Done], None]
) -> None:
    """Call ``finish(job, work(job, stop))`` for each job, in order.

    ``jobs`` and ``finish`` run in the caller's thread while ``work`` has the next job in another;
    no more than two jobs are held. An error of ``jobs``, an interruption too, is raised once the
    jobs before it are finished; an error of ``work`` once those before its own are. If the caller
    stops before ``work`` does, ``stop`` is set: ``work`` should look at it, and raise Abandoned.
    """
    stop = Event()
    ahead: tuple[Job, Future[Done]] | None = None
    failure: BaseException | None = None
    try:
        while failure is None:
            try:
                job = next(jobs)
            except StopIteration:
                break
            except BaseException as exc:  # Ctrl-C too; another one does not wait
                failure = exc
                break
            if ahead is not None:
                ahead[1].result()  # raises before another job is begun
            before, ahead = ahead, (job, _started(work, job, stop))
            if before is not None:
                finish(before[0], before[1].result())
            del job, before  # they are large
        if ahead is not None:
            finish(ahead[0], ahead[1].result())
    finally:
        stop.set()
        if ahead is not None:
            wait([ahead[1]], _PATIENCE)
    if failure is not None:
        raise failure


def _started(work: Callable[[Job, Event], Done], job: Job, stop: Event) -> Future[Done]:
    """The result to come. The thread is no pool's: those make the process wait for it at exit."""
    result: Future[Done] = Future()

    def run() -> None:
        try:
            result.set_result(work(job, stop))
        except BaseException as exc:
            result.set_exception(exc)

    require_room_for_thread()
    Thread(target=run, name="one ahead", daemon=True).start()
    return result
