"""The HTTP face of the service: its routes, and every error as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles

from video_captioning import __version__
from video_captioning.bundle import Bundle
from video_captioning.serve import options, schema
from video_captioning.serve.edge import Edge, response
from video_captioning.serve.keys import Keys
from video_captioning.serve.logs import request_id
from video_captioning.serve.refusals import BusyError, RefusalError
from video_captioning.serve.service import Service
from video_captioning.serve.upload import File, received

STATIC = Path(__file__).parent / "static"
Made = TypeVar("Made")


def make(service: Service, keys: Keys) -> FastAPI:
    """The ASGI application; starting and stopping it starts and stops the service."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            service.stop()

    app = FastAPIOffline(
        title="vidcap",
        description="Short videos in, English sentences out.",
        version=__version__,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would trust the request's Host
        lifespan=lifespan,
    )
    app.add_middleware(Edge, metrics=service.metrics, keys=keys)
    app.add_exception_handler(RefusalError, _refuse)
    app.add_exception_handler(HTTPException, _refuse_as_framework)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    _add_captions(app, service)
    _add_state(app, service)
    return app


def _add_captions(app: FastAPI, service: Service) -> None:
    bundles = {name: captioner.bundle for name, captioner in service.captioners.items()}

    @asynccontextmanager
    async def accepted(request: Request, most: int) -> AsyncIterator[tuple[list[File], options.Options]]:
        start = perf_counter()
        with service.admitted(request.client.host if request.client else ""):
            async with received(request, service.spool, service.settings, most) as upload:
                service.metrics.stage.labels("upload").observe(perf_counter() - start)
                yield upload.files, options.read([*request.query_params.multi_items(), *upload.texts], bundles)

    @app.post("/v1/captions", **schema.captions(many=False))
    async def caption(request: Request) -> Response:
        """One sentence and tags for one clip, or with `segments` for each of its scenes."""
        async with accepted(request, 1) as ([file], given):
            work = service.captions(file, given)
            made = await while_there(request, service.settings.work_seconds, work)
        name = request_id.get()
        if not given.segments:
            return JSONResponse({"id": name, **made[0].to_dict()})
        results = [{"id": f"{name}-{number}", **each.to_dict()} for number, each in enumerate(made)]
        return JSONResponse({"id": name, "results": results})

    @app.post("/v1/captions:batch", **schema.captions(many=True))
    async def captions(request: Request) -> Response:
        """One sentence and tags for each of several clips, in their order, or what is wrong with it."""

        async def one(number: int, file: File, given: options.Options) -> dict[str, Any]:
            name = f"{request_id.get()}-{number}"
            try:
                [made] = await service.captions(file, given)
                return {"id": name, **made.to_dict()}
            except RefusalError as refusal:
                return {"id": name, **refusal.to_dict(request_id.get())}

        async with accepted(request, service.settings.files) as (files, given):
            if given.segments:
                hint = "send each clip to /v1/captions"
                raise RefusalError(422, "invalid_option", "segments are made of one clip a request", hint)
            work = _all([one(number, file, given) for number, file in enumerate(files)])
            results = await while_there(request, service.settings.work_seconds, work)
        return JSONResponse({"id": request_id.get(), "results": results})


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", **schema.answers())
    async def models() -> Response:
        """The models that are loaded, the default first."""
        return JSONResponse({"models": [_described(each.bundle) for each in service.captioners.values()]})

    @app.get("/health", **schema.answers())
    async def health() -> Response:
        """Is the process alive?"""
        return JSONResponse({"status": "ok", "version": __version__})

    @app.get("/ready", **schema.answers(503))
    async def ready() -> Response:
        """Would a request be taken now?"""
        if not service.ready or service.full:
            raise BusyError("not_ready", "the service takes no request just now")
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", response_class=PlainTextResponse, **schema.answers())
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(STATIC / "index.html")


async def while_there(request: Request, seconds: float, work: Coroutine[Any, Any, Made]) -> Made:
    """The result of `work`, which is given up when the client leaves or time is up.

    Raises:
        ClientDisconnect: the client has left.
        BusyError: it took more than so many seconds.
    """
    task, gone = asyncio.create_task(work), asyncio.create_task(_left(request))
    try:
        await asyncio.wait({task, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise ClientDisconnect
        raise BusyError("too_slow", f"there was no time for this request within {seconds:g} s")
    finally:
        task.cancel()
        gone.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _all(works: list[Coroutine[Any, Any, Made]]) -> list[Made]:
    return await asyncio.gather(*works)


def _described(bundle: Bundle) -> dict[str, Any]:
    """What a client may know: not where the model lies, nor how it was made."""
    return {
        "name": bundle.name,
        "version": bundle.version,
        "kind": bundle.kind,
        "licence": bundle.licence,
        "bytes": bundle.bytes,
        "sha256": bundle.sha256,
        "sampling": asdict(bundle.sampling),
        "decoding": asdict(bundle.decoding),
        "confidence": bundle.confidence is not None,
        "tags": bundle.concepts is not None,
        "scores": bundle.scores,
    }


async def _refuse(_: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, RefusalError)
    return response(refusal)


async def _refuse_as_framework(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 404:
        refusal = RefusalError(404, "not_found", "there is nothing at this address", "see /docs")
    elif error.status_code == 405:
        refusal = RefusalError(405, "method_not_allowed", "this address knows other methods", "see /docs")
    else:
        refusal = RefusalError(error.status_code, "refused", str(error.detail), "see /docs")
    refusal.headers.update(headers)
    return response(refusal)
