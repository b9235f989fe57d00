"""Workers that die. The function is `eval`, so that each task can say what happens to its worker."""

import os

import pytest

from lib.data.workers import Pool, WorkerCrashed

CRASH = "__import__('os')._exit(3)"
THREADS = "__import__('torch').get_num_threads()"


def test_a_crash_costs_its_own_task_only_and_no_more_is_taken_than_fits_the_window():
    tasks, taken, results = ["1 + 0", THREADS, CRASH, *map(str, range(20))], [], {}
    before = dict(os.environ)

    def feed():
        for task in tasks:
            taken.append(task)
            yield task

    with Pool(eval, 1, backlog=3) as pool:
        for task, result in pool.run(feed()):
            results[task] = result
            assert len(taken) <= len(results) + 3
    assert set(results) == set(tasks)
    assert isinstance(results.pop(CRASH), WorkerCrashed)
    assert results.pop(THREADS) == 1
    assert results.pop("1 + 0") == 1
    assert results == {str(k): k for k in range(20)}
    assert dict(os.environ) == before


def test_an_exception_of_the_function_is_raised():
    with Pool(eval, 0) as pool, pytest.raises(ZeroDivisionError):
        list(pool.run(["1 / 0"]))


def test_without_workers_everything_happens_here():
    with Pool(lambda task: (task, os.getpid()), 0) as pool:
        assert [result for _, result in pool.run("ab")] == [("a", os.getpid()), ("b", os.getpid())]
