"""One thread that computes what a page waits for: the newest wish first, what may be wanted next when nothing waits."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Hashable, Iterable

_LAST_S = 600.0  # at the end of the process: so long may the picture in work take
_LEFT_OVER = 8  # wishes of before that are still computed, behind the newest


class Background:
    """Computes wishes in a thread that lives as long as there is something to do.

    Args:
        compute: does one wish and keeps its result; what it raises counts as done.
        told: called (in the thread) before and after each wish, as told(wish, error): error is None before, "" after,
            or what went wrong.
        settle_s: a wish waits so long before it is begun: a slider that is still moving makes another one.
        idle_s: what is computed ahead waits so long.
    """

    def __init__(
        self,
        compute: Callable[[Hashable], object],
        told: Callable[[Hashable, str | None], None],
        settle_s: float = 0.1,
        idle_s: float = 0.5,
    ):
        self.compute, self.told, self.settle_s, self.idle_s = compute, told, settle_s, idle_s
        self._wanted: list[Hashable] = []
        self._ahead: list[Hashable] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._at: Hashable | None = None  # in work
        self._news = 0  # counts the wishes
        self._closed = False

    def wish(self, wanted: Iterable[Hashable], ahead: Iterable[Hashable] = ()) -> None:
        """Compute these first, in this order; then some of what was wished for before; then what may come next."""
        with self._changed:
            if self._closed:
                return
            wanted = [key for key in dict.fromkeys(wanted) if key != self._at]
            left = [key for key in self._wanted if key not in wanted][:_LEFT_OVER]
            self._wanted, self._ahead, self._news = wanted + left, list(ahead), self._news + 1
            if self._thread is None and (self._wanted or self._ahead):
                self._thread = threading.Thread(target=self._run, name="comparison", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    @property
    def busy(self) -> bool:
        """Whether something is in work or waits."""
        with self._changed:
            return self._at is not None or bool(self._wanted)

    @property
    def running(self) -> bool:
        """Whether the thread is alive."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def close(self, timeout_s: float | None = None) -> None:
        """Forget all wishes; the thread ends behind the picture it works on. timeout_s: wait for that so long."""
        with self._changed:
            self._closed, self._wanted, self._ahead = True, [], []
            thread = self._thread
            self._changed.notify_all()
        if timeout_s and thread and thread is not threading.current_thread():
            thread.join(timeout_s)

    def _next(self) -> Hashable | None:
        """The next wish, once it has stood unchanged for a moment; None when there is nothing left."""
        with self._changed:
            while not self._closed and (self._wanted or self._ahead):
                news = self._news
                self._changed.wait(self.settle_s if self._wanted else self.idle_s)
                if news == self._news and not self._closed:
                    self._at = (self._wanted or self._ahead).pop(0)
                    return self._at
            self._thread = None  # under the lock: a wish that comes now starts another
            return None

    def _run(self) -> None:
        atexit.register(self.close, _LAST_S)  # a thread that dies inside torch takes the whole process down with it
        try:
            self._work()
        finally:
            atexit.unregister(self.close)

    def _work(self) -> None:
        while (key := self._next()) is not None:
            self.told(key, None)
            error = ""
            try:
                self.compute(key)
            except Exception as failure:  # told on the page: the thread goes on with the next wish
                error = str(failure) or type(failure).__name__
            with self._changed:
                self._at = None
            self.told(key, error)
