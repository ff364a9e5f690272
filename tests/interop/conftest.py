"""These tests need the peers themselves, which have an environment of their own: `make interop`."""

from __future__ import annotations

import importlib.util
import os

PEERS = ("delphi", "dictionary_learning", "sparsify")
collect_ignore_glob = [] if all(importlib.util.find_spec(name) for name in PEERS) else ["test_*.py"]
os.environ.setdefault(
    "SPARSIFY_DISABLE_TRITON", "1"
)  # its kernels need a GPU; they compute what the plain version does
