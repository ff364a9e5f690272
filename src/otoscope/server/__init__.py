"""The HTTP API and the browser app over one workspace."""

from __future__ import annotations

from otoscope.server.app import create_app
from otoscope.server.listen import serve

__all__ = ["create_app", "serve"]
