"""What the page can ask for, as a Starlette application."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from .. import __version__
from ..editing.job import JOBS, EditJob, ExtendJob, GenerateJob, Job, Opening, RemoveJob, Setup
from ..errors import InlayError, PhotoError, UsageError
from ..photos.mask_files import load_mask
from ..photos.photo import Photo
from ..photos.read import size_of
from ..photos.save import FORMATS, check_quality
from . import form
from .events import Events
from .guard import Guard
from .history import History, Result, readable
from .pointing import Pointed, Pointing, cut_out
from .work import Work, small_file

LARGEST_UPLOAD = 512 * 2**20
"""Bytes of a photo: more than any camera writes."""
LARGEST_MASK = 64 * 2**20
"""Bytes of a packed, deflated mask."""
LARGEST_WISH = 2**20
"""Bytes of anything that is said in JSON."""

PAGE = Path(__file__).parent / "page"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
ENDINGS = (".png", ".jpg", ".webp", ".tif")
SHOWN = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}
"""How files begin that every browser shows, and their types."""
FOR_EVER = {"Cache-Control": "private, max-age=31536000, immutable"}


class TooLarge(InlayError):  # noqa: N818
    """A request has more bytes than anything it could mean."""


class Place(BaseModel):
    """A mask by its id, and the words that belong in it."""

    model_config = ConfigDict(extra="forbid")

    mask: str
    words: str = ""


class Wish(BaseModel):
    """An edit of a photo, or a picture of nothing: the form as it is filled in, and the places on the canvas."""

    model_config = ConfigDict(extra="forbid")

    action: str
    fields: dict[str, str | bool | int | float | None] = {}
    photo: str | None = None
    places: list[Place] = []
    ending: str = ".png"
    size: tuple[int, int] | None = None
    """(width, height) of the masks of a layout."""


@dataclass(frozen=True)
class Server:
    """The page's server: what it has open, and a method for each thing that a page may ask."""

    history: History
    setup: Setup
    model: str
    segmenter: str = "auto"
    offered: tuple[str, ...] = ()
    """Adapters that the server was started with."""
    opened: str | None = None
    """The id of the photo that a page begins with."""
    events: Events = field(default_factory=Events)

    @cached_property
    def pointing(self) -> Pointing:
        return Pointing(self.history, self.setup, self.segmenter)

    @cached_property
    def work(self) -> Work:
        return Work(self.history, self.setup, self.events)

    def application(self, token: str, host: str, port: int) -> Starlette:
        get = {
            "/": self.page,
            "/page/{name}": self.page,
            "/state": self.state,
            "/choices": self.choices,
            "/events": self.listen,
            "/photos/{photo}": self.photo,
            "/photos/{photo}/about": self.about,
            "/masks/{mask}": self.mask,
            "/history": self.results,
            "/results/{result}/{number:int}": self.picture,
            "/results/{result}/{number:int}/small": self.small,
            "/results/{result}/{number:int}/recipe": self.recipe,
            "/results/{result}/{number:int}/attention": self.attention,
            "/results/{result}/{number:int}/attention/{name}": self.attention_picture,
            "/runs/{run:int}/preview/{number:int}": self.preview,
        }
        post = {
            "/photos": self.upload,
            "/photos/{photo}/mask": self.point,
            "/masks": self.keep_mask,
            "/runs": self.run,
            "/runs/{run:int}/cancel": self.cancel,
            "/results/{result}/more": self.more,
            "/results/{result}/{number:int}/attention": self.look,
            "/results/{result}/{number:int}/open": self.reopen,
        }
        return Starlette(
            routes=[
                *(Route(path, answer, methods=["GET"]) for path, answer in get.items()),
                *(Route(path, answer, methods=["POST"]) for path, answer in post.items()),
            ],
            middleware=[Middleware(Guard, token=token, host=host, port=port)],
            exception_handlers={InlayError: refused, ValidationError: misunderstood},
            lifespan=self.lifespan,
        )

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self.work.start()
        if self.opened:
            self.pointing.encode(self.opened)
        yield
        self.work.close()
        self.pointing.close()

    async def page(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        file = PAGE / name
        if file.parent != PAGE or not file.is_file() or file.suffix not in KINDS:
            return Response(f"There is no {name} here.", 404)
        return FileResponse(file, media_type=KINDS[file.suffix], headers={"Cache-Control": "no-cache"})

    async def state(self, _: Request) -> Response:
        """All that the page needs to be ready."""
        return JSONResponse(
            {
                "version": __version__,
                "photo": self.opened and self.told(self.opened),
                "forms": self.forms,
                "endings": ENDINGS,
                "largest_upload": LARGEST_UPLOAD,
            }
        )

    @cached_property
    def forms(self) -> dict[str, Any]:
        return {action: form.form(kind, self.model) for action, kind in JOBS.items()}

    async def choices(self, _: Request) -> Response:
        """What takes a while to find out: models and methods, and whether places are found by text."""

        def found() -> dict[str, Any]:
            from ..guidance.methods import METHODS

            return {"models": self.models, "methods": list(METHODS), "text": finds_text()}

        return JSONResponse(await run_in_threadpool(found))

    @cached_property
    def models(self) -> list[str]:
        """The models that a page may choose: the one that the server was started with, and those on this machine."""
        from ..weights.at_hand import weights_at_hand

        here = [one.name for one in weights_at_hand() if one.kind == "diffusion" and one.state == "ready"]
        return list(dict.fromkeys([self.model, *here]))

    @cached_property
    def adapters(self) -> set[str]:
        """What a page may load onto a model: what the server was started with, and what is on this machine."""
        from ..weights.at_hand import weights_at_hand
        from ..weights.catalogue import CONTROLS, REFERENCES

        kinds = ("lora", "embedding", "vae", "control", "reference")
        here = {*self.offered, *(one.name for one in weights_at_hand() if one.kind in kinds)}
        known = {name: "/".join(file.split("/")[:2]) for (name, _), file in (CONTROLS | REFERENCES).items()}
        return {*here, *(name for name, repository in known.items() if repository in here)}

    async def listen(self, _: Request) -> Response:
        news = [run.news() for run in self.work.runs]
        return StreamingResponse(self.events.listen("runs", news), media_type="text/event-stream")

    async def upload(self, request: Request) -> Response:
        """A photo's bytes become a photo of the history; `?shown` for a picture that is none to be edited."""
        name = Path(request.query_params.get("name", "")).name or "photo"
        try:
            file = self.history.incoming(name)
            try:
                with file.open("xb") as stream:
                    async for part in body(request, LARGEST_UPLOAD):
                        await run_in_threadpool(stream.write, part)
                identity = await run_in_threadpool(self.take, file, name, "shown" not in request.query_params)
            finally:
                file.unlink(missing_ok=True)
        except OSError as error:
            raise PhotoError(f"{name} cannot be kept in {self.history.folder}: {error.strerror}.") from error
        return JSONResponse(await run_in_threadpool(self.told, identity))

    def take(self, file: Path, name: str, opened: bool = True) -> str:
        """Move a photo into the history, once it has been read; the encoding of one that is opened begins."""
        photo = readable(file, name, self.setup.max_pixels)
        identity = self.history.take_photo(file, name)
        if opened:
            self.pointing.remember(identity, photo)
            self.pointing.encode(identity)
        return identity

    def told(self, identity: str) -> dict[str, Any]:
        """A photo as the page is told of it."""
        width, height = self.pointing.open(identity).size
        return {"photo": identity, "name": self.history.photo(identity).name, "width": width, "height": height}

    async def about(self, request: Request) -> Response:
        identity = request.path_params["photo"]
        answer = await run_in_threadpool(self.told, identity)
        self.pointing.encode(identity)
        return JSONResponse(answer)

    async def photo(self, request: Request) -> Response:
        return await shown(self.history.photo(request.path_params["photo"]), self.setup.max_pixels)

    async def point(self, request: Request) -> Response:
        """The mask of what is pointed at, cut out; a header says where it stands."""
        pointed = Pointed.model_validate_json(await whole(request, LARGEST_WISH))
        identity = request.path_params["photo"]
        self.history.photo(identity)
        found = await asyncio.wrap_future(self.pointing.find(identity, pointed))
        return cut(found.png, left=found.left, top=found.top, backend=found.backend, seconds=found.seconds)

    async def keep_mask(self, request: Request) -> Response:
        """Rows of bits, each row padded to whole bytes, deflated."""
        width, height = (whole_number(request.query_params.get(side, "")) for side in ("width", "height"))
        if not 0 < width * height <= self.setup.max_pixels:
            raise UsageError(f"A mask of {width} x {height} pixels is none.")
        bits = await whole(request, LARGEST_MASK)
        mask = await run_in_threadpool(unpacked, bits, width, height)
        return JSONResponse({"mask": await run_in_threadpool(self.history.keep_mask, mask)})

    async def mask(self, request: Request) -> Response:
        path = self.history.mask(request.path_params["mask"])
        png, left, top = await run_in_threadpool(lambda: cut_out(load_mask(path, max_pixels=self.setup.max_pixels)))
        return cut(png, left=left, top=top)

    async def run(self, request: Request) -> Response:
        wish = Wish.model_validate_json(await whole(request, LARGEST_WISH))
        return JSONResponse((await run_in_threadpool(self.ask, wish)).news())

    def ask(self, wish: Wish) -> Any:
        """Put what is wished for into the queue."""
        if wish.ending not in ENDINGS:
            raise UsageError(f"Results are written as {', '.join(ENDINGS)}, not as {wish.ending!r}.")
        ours = self.of_photo(wish) if wish.action in ("edit", "remove", "extend") else self.laid_out(wish)
        fields = {"model": self.model, **wish.fields}
        job = form.job_of(wish.action, fields, self.models, self.adapters, self.history.sent, **ours)
        if isinstance(job, ExtendJob) and not any(float(getattr(job, side).rstrip("%")) for side in form.SIDES):
            raise UsageError("Nothing is added; drag an edge of the frame outwards, or say how much to add at a side.")
        check_quality(FORMATS[wish.ending], job.quality)
        return self.work.ask(job, wish.ending)

    def of_photo(self, wish: Wish) -> dict[str, Any]:
        """The fields of a job on a photo that the canvas says."""
        if wish.photo is None:
            raise UsageError("There is no photo; open one.")
        photo = {"photo": str(self.history.photo(wish.photo))}
        return photo if wish.action == "extend" else photo | self.pointed_at(wish, self.pointing.open(wish.photo).size)

    def pointed_at(self, wish: Wish, size: tuple[int, int]) -> dict[str, Any]:
        """The masks on a photo of a size (width, height), and their words."""
        if not wish.places:
            raise UsageError("Nothing is pointed at; click on the thing, draw a box around it, or paint over it.")
        masks = [self.history.mask(place.mask) for place in wish.places]
        words = [place.words.strip() for place in wish.places]
        if any(words) and not all(words):
            raise UsageError("Some places have words and others have none; give each its own words, or none any.")
        return {
            "mask": tuple(map(str, masks)),
            "mask_fit": "exact" if all(size_of(mask) == size for mask in masks) else "resize",
            **({"words": tuple(words)} if all(words) else {}),
        }

    def laid_out(self, wish: Wish) -> dict[str, Any]:
        """The layout of a picture from nothing, if any places were drawn."""
        if not wish.places:
            return {}
        if not all(place.words.strip() for place in wish.places):
            raise UsageError("Each place of a layout needs words: say what stands in it.")
        regions = [{"words": one.words.strip(), "mask": self.history.mask(one.mask).name} for one in wish.places]
        prompt = str(wish.fields.get("prompt") or "")
        return {"layout": str(self.history.keep_layout({"prompt": prompt, "size": wish.size, "regions": regions}))}

    async def cancel(self, request: Request) -> Response:
        self.work.cancel(request.path_params["run"])
        return JSONResponse({})

    async def preview(self, request: Request) -> Response:
        """The newest preview of a run; the number in the address only keeps browsers from showing an older one."""
        for run in self.work.runs:
            if run.number == request.path_params["run"] and (preview := run.preview):
                return Response(preview.jpeg, media_type="image/jpeg")
        return Response("That preview is over.", 404)

    async def results(self, _: Request) -> Response:
        found = await run_in_threadpool(self.history.all_results)
        return JSONResponse(await run_in_threadpool(lambda: [self.entry(result) for result in found]))

    def entry(self, result: Result) -> dict[str, Any]:
        """A result as the page lists it, with what brings its prompt, masks and settings back."""
        job = result.record(0).job
        facts = [result.record(k).facts for k in range(len(result.records))]
        return {
            "result": result.name,
            "action": job.action,
            "prompt": job.prompt,
            "photo": Path(job.photo).stem[-16:] if isinstance(job, Opening) and job.photo else None,
            "fields": form.filled_in(job),
            "places": self.places(job),
            "notes": result.notes,
            "pictures": [
                {
                    "name": result.records[k]["path"],
                    "seed": one.image_seed,
                    "score": one.score,
                    "width": one.size[1],
                    "height": one.size[0],
                }
                for k, one in enumerate(facts)
            ],
        }

    def places(self, job: Job) -> list[dict[str, Any]]:
        """The masks of a job and their words; none where its layout is gone or spoilt."""
        if isinstance(job, EditJob | RemoveJob):
            words = (isinstance(job, EditJob) and job.words) or ("",) * len(job.mask)
            return [{"mask": Path(mask).stem, "words": said} for mask, said in zip(job.mask, words, strict=True)]
        if not isinstance(job, GenerateJob) or job.layout is None:
            return []
        try:
            regions = json.loads((self.history.masks / Path(job.layout).name).read_text("utf-8"))["regions"]
            return [{"mask": Path(one["mask"]).stem, "words": one["words"]} for one in regions]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def asked_result(self, request: Request) -> tuple[Result, int]:
        return self.history.result(request.path_params["result"]), request.path_params.get("number", 0)

    async def picture(self, request: Request) -> Response:
        """A picture to look at, or with `?download` the very file."""
        result, number = self.asked_result(request)
        path = result.picture(number)
        if "download" in request.query_params:
            return FileResponse(path, filename=path.name)
        return await shown(path, self.setup.max_pixels)

    async def small(self, request: Request) -> Response:
        result, number = self.asked_result(request)
        return FileResponse(small_file(result.picture(number)), media_type="image/jpeg", headers=FOR_EVER)

    async def recipe(self, request: Request) -> Response:
        """The command and the manifest's row that make a picture again."""
        result, number = self.asked_result(request)
        record, picture = result.record(number), result.picture(number)
        row = form.row(record, f"{result.name}-{number + 1}", picture.name)
        return JSONResponse({"command": form.command(record, picture), "row": row})

    async def more(self, request: Request) -> Response:
        """The same again from the next seeds that no run is about to paint."""
        result, _ = self.asked_result(request)
        job = result.record(0).job
        again = job.model_copy(update={"seed": self.work.next_seed(job)})
        return JSONResponse(self.work.ask(again, result.picture(0).suffix).news())

    async def attention(self, request: Request) -> Response:
        """The names of a picture's attention pictures that were made."""
        result, number = self.asked_result(request)
        names = [file.name for file in result.attention(number).glob("*.png")]
        return JSONResponse(sorted(names, key=lambda name: (name.endswith("-steps.png"), name)))

    async def attention_picture(self, request: Request) -> Response:
        result, number = self.asked_result(request)
        file = result.attention(number) / request.path_params["name"]
        if file.parent != result.attention(number) or not file.is_file():
            return Response("There is no such picture.", 404)
        return FileResponse(file)

    async def look(self, request: Request) -> Response:
        """Have a picture's attention pictures made."""
        result, number = self.asked_result(request)
        job = form.again(result.record(number))
        return JSONResponse(self.work.ask(job, attention_of=(result, number)).news())

    async def reopen(self, request: Request) -> Response:
        """A result's picture becomes a photo of the history."""
        result, number = self.asked_result(request)

        def copied() -> dict[str, Any]:
            picture = result.picture(number)
            file = self.history.incoming(picture.name)
            file.write_bytes(picture.read_bytes())
            return self.told(self.take(file, picture.name))

        return JSONResponse(await run_in_threadpool(copied))


def cut(png: bytes, **says: Any) -> Response:
    """A mask as `cut_out` made it."""
    return Response(png, media_type="image/png", headers={"Inlay-Mask": json.dumps(says)})


async def body(request: Request, most: int) -> AsyncIterator[bytes]:
    """A request's bytes as they come; raises TooLarge before the first or at the byte that is too many."""
    refusal = TooLarge(f"That is too large: at most {most // 2**20} MB are taken.")
    if whole_number(request.headers.get("content-length", "0")) > most:
        raise refusal
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise refusal
        yield part


async def whole(request: Request, most: int) -> bytes:
    return b"".join([part async for part in body(request, most)])


def whole_number(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise UsageError(f"{text!r} is not a whole number.")
    return int(text)


def unpacked(bits: bytes, width: int, height: int) -> Bool[np.ndarray, "H W"]:
    """The mask in packed, deflated rows; no more is inflated than a mask of that size has."""
    across = -(-width // 8)
    try:
        rows = zlib.decompressobj().decompress(bits, across * height + 1)
    except zlib.error as error:
        raise UsageError("The mask did not come whole; try again.") from error
    if len(rows) != across * height:
        raise UsageError(f"The mask is not one of {width} x {height} pixels.")
    packed = np.frombuffer(rows, np.uint8).reshape(height, across)
    return np.unpackbits(packed, axis=1, count=width).astype(bool)


async def shown(path: Path, max_pixels: int) -> Response:
    """A picture's file where browsers show its kind, else a PNG of it."""
    with path.open("rb") as file:
        kind = next((kind for start, kind in SHOWN.items() if file.read(4).startswith(start) or file.seek(0)), None)
    if kind:
        return FileResponse(path, media_type=kind, headers=FOR_EVER)
    return Response(await run_in_threadpool(as_png, path, max_pixels), media_type="image/png", headers=FOR_EVER)


def as_png(path: Path, max_pixels: int) -> bytes:
    import io

    stream = io.BytesIO()
    Photo.open(path, max_pixels=max_pixels).image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def finds_text() -> bool:
    """Whether a model that finds things by text is on this machine."""
    from ..weights.at_hand import weights_at_hand

    return any(one.kind == "detection" and one.state == "ready" for one in weights_at_hand())


async def refused(_: Request, error: Exception) -> Response:
    """One sentence; a connection on which more bytes come than are read is closed."""
    if isinstance(error, TooLarge):
        return JSONResponse({"error": str(error)}, 413, {"Connection": "close"})
    return JSONResponse({"error": str(error)}, 400)


async def misunderstood(_: Request, error: Exception) -> Response:
    assert isinstance(error, ValidationError)
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"]) or "request"
    return JSONResponse({"error": f"The {name} cannot be read: {first['msg'].lower()}."}, 400)
