"""The application: routes, errors as one sentence, the browser app's files, the guard around everything."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import threading
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

import otoscope
from otoscope.errors import InputError, OtoscopeError
from otoscope.server.routes import clips, edits, features, interpretations, moments, notes, overview
from otoscope.server.security import Guard
from otoscope.server.shapes import Problem
from otoscope.server.state import MODEL_CALLS, NotFoundError, State

if TYPE_CHECKING:
    from otoscope.workspace import Workspace

WEB = Path(__file__).parent / "web"
PAGES = re.compile(r"/(features|feature/.+|sound|moments|clips|clip/.+|edit|api)?/?")
"""Addresses of the browser app; any other path answers 404 (with the app, which says so)."""

log = logging.getLogger("otoscope.server")


def create_app(workspace: Workspace, *, allowed_hosts: Iterable[str] = ()) -> FastAPI:
    """Return the web application over `workspace`.

    `allowed_hosts`: names by which browsers may address it besides localhost and IP addresses.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=_warm_up, args=(app.state.otoscope,), daemon=True).start()
        yield

    app = FastAPI(
        title="Otoscope",
        summary="Features of speech models: search, hear, see and edit them.",
        version=otoscope.__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        responses={400: {"model": Problem}, 404: {"model": Problem}},
    )
    app.state.otoscope = State(workspace)
    app.state.edits_at_once = asyncio.Semaphore(MODEL_CALLS)
    for part in (overview, features, interpretations, moments, notes, clips, edits):
        app.include_router(part.router)
    _add_errors(app)
    app.mount("/web", WebFiles(directory=WEB))
    _add_pages(app)
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=5)
    app.add_middleware(Guard, allowed_hosts=allowed_hosts)
    return app


def _warm_up(state: State) -> None:
    """Load the model while the page is still being fetched; a failure shows where the model is first needed."""
    with contextlib.suppress(OtoscopeError):
        state.model()


class WebFiles(StaticFiles):
    """The browser app's own files: kept by the browser, but asked about each time."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _add_pages(app: FastAPI) -> None:
    @app.get("/favicon.ico", include_in_schema=False)
    def favicon() -> Response:
        return FileResponse(WEB / "favicon.svg", media_type="image/svg+xml")

    @app.get("/api/{path:path}", include_in_schema=False)
    def unknown_endpoint(path: str) -> Response:
        return problem(404, f"There is nothing at /api/{path[:80]}; /api/openapi.json lists what there is.")

    @app.get("/{path:path}", include_in_schema=False)
    def page(request: Request, path: str) -> Response:
        known = PAGES.fullmatch(f"/{path}") is not None
        headers = {"Cache-Control": "no-cache"}
        return FileResponse(WEB / "index.html", 200 if known else 404, headers, media_type="text/html")


def problem(status: int, sentence: str) -> JSONResponse:
    """Return an error answer: one sentence under `error`."""
    return JSONResponse({"error": sentence}, status)


def _add_errors(app: FastAPI) -> None:
    async def not_found(request: Request, error: Any) -> Response:
        return problem(404, str(error))

    async def bad_input(request: Request, error: Any) -> Response:
        return problem(400, str(error))

    async def failed(request: Request, error: Any) -> Response:
        return problem(500, str(error))

    async def http(request: Request, error: Any) -> Response:
        return problem(error.status_code, str(error.detail))

    async def invalid(request: Request, error: Any) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("query", "path", "body"))
        given = f" (given: {first['input']!r:.60})" if "input" in first and first["type"] != "missing" else ""
        return problem(400, f"{where or 'The request'}: {first['msg']}{given}.")

    async def unexpected(request: Request, error: Any) -> Response:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem(500, f"The server failed ({type(error).__name__}); its terminal shows the details.")

    app.add_exception_handler(NotFoundError, not_found)
    app.add_exception_handler(InputError, bad_input)
    app.add_exception_handler(OtoscopeError, failed)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, unexpected)
