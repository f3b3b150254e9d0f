"""Where tools compute: the options --jobs and --dask of their command lines, and what these mean."""

from __future__ import annotations

import argparse

from ..runner.running import Executor, executor


def add_executor(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options."""
    parser.add_argument("-j", "--jobs", type=int, default=1, help="worker processes; 0: one for each core")
    parser.add_argument("--dask", metavar="ADDRESS", help="a Dask scheduler, or its file, instead of worker processes")


def executor_of(given: argparse.Namespace, timeout: float) -> Executor:
    """What the options ask for.

    Raises:
        UsageError: no scheduler answers, or its workers have other code.
    """
    return executor(given.jobs, timeout, None, "cpu", given.dask)


def where(given: argparse.Namespace) -> str:
    """The same in words."""
    return "on a Dask cluster" if given.dask else f"in {given.jobs} worker process{'es' if given.jobs != 1 else ''}"
