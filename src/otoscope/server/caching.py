"""A cache bounded by bytes in which concurrent requests for one thing compute it once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class ByteCache(Generic[V]):
    """Least-recently-used values up to `max_bytes`; `size` says how many bytes a value takes."""

    def __init__(self, max_bytes: int, size: Callable[[V], int]) -> None:
        self.max_bytes = max_bytes
        self._size = size
        self._values: OrderedDict[Hashable, V] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()
        self._making: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """Return the value of `key`, made by `make()` if it is not kept; other threads asking for it wait."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._values:
                    return self._values[key]
            try:
                value = make()
                self._keep(key, value)
                return value
            finally:
                with self._lock:
                    self._making.pop(key, None)

    def _keep(self, key: Hashable, value: V) -> None:
        n_bytes = self._size(value)
        if n_bytes > self.max_bytes // 2:
            return
        with self._lock:
            self._values[key] = value
            self._n_bytes += n_bytes
            while self._n_bytes > self.max_bytes:
                _, dropped = self._values.popitem(last=False)
                self._n_bytes -= self._size(dropped)
