"""Work spread over processes: answers as they are finished, and no process left behind, however it ends."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

Task = TypeVar("Task")
Answer = TypeVar("Answer")

STOPS = (KeyboardInterrupt, BrokenProcessPool)
"""What ends a run before its time; what was found until then is reported."""


def why(stop: BaseException) -> str:
    """One of STOPS in words, for a report."""
    return "interrupted" if isinstance(stop, KeyboardInterrupt) else "a worker process died (out of memory?)"


def one_thread_each() -> None:
    """For a worker among several: their threads would wait for each other (ten times slower on four cores)."""
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch: with more, sums are rounded otherwise, and figures would depend on the number of processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def in_workers(
    compute: Callable[[Task], Answer], tasks: Sequence[Task], jobs: int, start: Callable[..., None], *given: Any
) -> Generator[Answer, None, None]:
    """The answers to tasks as worker processes finish them; the processes end with this generator.

    Args:
        compute: answers a task, in a worker; everything here is picklable.
        tasks: given out one at a time, in order.
        jobs: the number of workers.
        start: called in each worker before its first task, with what is given.

    Raises:
        BrokenProcessPool: a worker died.
    """
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(start, given))
    try:
        for future in as_completed([pool.submit(compute, task) for task in tasks]):
            yield future.result()
        pool.shutdown()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in set(multiprocessing.active_children()) - before:
            worker.terminate()
        raise


def _begin(start: Callable[..., None], given: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    one_thread_each()
    start(*given)
