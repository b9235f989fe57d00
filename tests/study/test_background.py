"""The newest wish comes first, what went wrong is told, and closing ends the thread."""

import threading
import time

import pytest

from lib.study.background import Background


class Bench:
    """A Background whose work waits for `gate`, and what it did in order."""

    def __init__(self, **timing):
        self.gate, self.begun, self.done, self.told = threading.Semaphore(0), threading.Semaphore(0), [], []
        self.work = Background(self.compute, lambda key, error: self.told.append((key, error)), **timing)

    def compute(self, key):
        self.begun.release()
        assert self.gate.acquire(timeout=10)
        if key == "bad":
            raise ValueError("a damaged file")
        self.done.append(key)

    def let(self, count):
        for _ in range(count):
            self.gate.release()

    def until_idle(self):
        for _ in range(1000):
            if not self.work.running:
                return
            time.sleep(0.005)
        raise AssertionError("still running")


@pytest.fixture
def bench():
    made = Bench(settle_s=0, idle_s=0)
    yield made
    made.let(100)
    made.work.close(5)


def test_the_newest_wish_comes_first_then_what_was_left_then_what_may_come(bench):
    bench.work.wish(["a", "b", "c"], ["x"])
    assert bench.begun.acquire(timeout=5)  # a is in work
    bench.work.wish(["d", "b"], ["y"])
    bench.let(10)
    bench.until_idle()
    assert bench.done == ["a", "d", "b", "c", "y"]  # x was to come after a choice that is no more
    assert bench.told[:2] == [("a", None), ("a", "")]


def test_old_wishes_are_forgotten_at_last(bench):
    for k in range(30):
        bench.work.wish([k])
    bench.let(100)
    bench.until_idle()
    assert 29 in bench.done
    assert len(bench.done) <= 10  # the one in work, the newest, and eight of before


def test_a_failure_is_told_and_the_next_is_done(bench):
    bench.work.wish(["bad", "good"])
    bench.let(2)
    bench.until_idle()
    assert ("bad", "a damaged file") in bench.told
    assert bench.done == ["good"]


def test_a_wish_that_does_not_stand_long_enough_is_not_begun():
    bench = Bench(settle_s=0.2)
    for k in range(3):
        bench.work.wish([k], [])
        time.sleep(0.02)
    bench.let(10)
    bench.until_idle()
    assert bench.done[0] == 2


def test_without_work_there_is_no_thread_and_a_new_wish_starts_one(bench):
    assert not bench.work.running
    bench.let(10)
    for key in ("a", "b"):
        bench.work.wish([key])
        bench.until_idle()
    assert bench.done == ["a", "b"]
    assert not bench.work.busy


def test_closing_forgets_all_wishes_and_ends_the_thread(bench):
    bench.work.wish(["a", "b"], ["c"])
    assert bench.begun.acquire(timeout=5)
    bench.let(3)
    bench.work.close(5)
    assert not bench.work.running
    bench.work.wish(["d"])
    assert not bench.work.running
    assert set(bench.done) <= {"a"}
