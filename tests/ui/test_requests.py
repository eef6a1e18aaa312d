"""What the server answers to whom, and that nothing that it is sent brings it down."""

from __future__ import annotations

import asyncio
import io
import json
import re
import socket
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from inlay import Photo
from inlay.editing.job import EditJob, GenerateJob, Reference, Setup
from inlay.ui import server
from inlay.ui.guard import Guard
from inlay.ui.history import History
from inlay.ui.serve import listening
from inlay.ui.server import ENDINGS, Server
from inlay.ui.work import REMEMBERED
from starlette.requests import Request

from .conftest import Serve, Served, keep

PAGE = Path(server.__file__).parent / "page"


def png(width: int = 40, height: int = 30) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Photo.from_image(pixels).image.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def photo(served: Served) -> str:
    return str(json.loads(served.ask("POST", "/photos?name=small.png", png()).body)["photo"])


def refused(answer: object) -> str:
    """The sentence of a refusal."""
    assert 400 <= answer.status < 500  # type: ignore[attr-defined]
    return str(json.loads(answer.body)["error"])  # type: ignore[attr-defined]


def test_the_token_opens_the_page_and_becomes_a_cookie(served: Served) -> None:
    answer = served.ask("GET", f"/?token={served.token}", cookie="")
    assert (answer.status, answer.headers["location"]) == (303, "/")
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=strict" in answer.headers["set-cookie"]
    assert b"<title>inlay" in served.ask("GET", "/", cookie=answer.headers["set-cookie"].partition(";")[0]).body


@pytest.mark.parametrize("path", ["/", "/state", "/page/main.js", "/history", "/?token=guessed", "/?token=%ff%fe"])
@pytest.mark.parametrize("cookie", ["", "inlay-{port}=guessed", "inlay-{port}=\xe4\xb8", "=;;="])
def test_without_the_token_nothing_is_shown(served: Served, path: str, cookie: str) -> None:
    answer = served.ask("GET", path, cookie=cookie.format(port=served.port))
    assert answer.status == 403
    assert "the address that inlay ui printed" in answer.text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.7", ""])
def test_a_foreign_name_is_refused(served: Served, host: str) -> None:
    assert served.ask("GET", "/state", Host=host).status == 403
    assert served.ask("GET", "/state", Host=f"localhost:{served.port}").status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1"])
def test_a_foreign_origin_is_refused(served: Served, origin: str) -> None:
    assert served.ask("POST", "/runs", "{}", Origin=origin.format(port=served.port)).status == 403
    own = f"http://127.0.0.1:{served.port}"
    assert served.ask("POST", "/runs/99/cancel", Host=own.removeprefix("http://"), Origin=own).status == 200


@pytest.mark.parametrize(
    ("bound", "name", "mine"),
    [
        ("0.0.0.0", "10.0.0.7:80", True),
        ("0.0.0.0", "evil.example", False),
        ("::", "[fe80::1]:80", True),
        ("photo.example", "photo.example:80", True),
    ],
)
def test_bound_elsewhere_only_addresses_and_its_own_name_are_taken(bound: str, name: str, mine: bool) -> None:
    assert Guard(lambda *_: None, "token", bound, 80)._is_mine(name) is mine  # type: ignore[arg-type, return-value]


def test_scripts_and_styles_come_from_files_alone(served: Served) -> None:
    policy = served.ask("GET", "/").headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    html = (PAGE / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|javascript:", html)
    assert not re.findall(r"https?://(?!www\.w3\.org/)", "".join(file.read_text() for file in PAGE.iterdir()))


@pytest.mark.parametrize("name", ["../server.py", "..%2fserver.py", "%2e%2e/server.py", "nothing.js", ".", "%00"])
def test_no_path_leads_out_of_the_page(served: Served, name: str) -> None:
    assert served.ask("GET", f"/page/{name}").status == 404


@pytest.mark.parametrize("path", ["/photos/{}", "/masks/{}", "/results/{}/0", "/results/{}/0/small"])
@pytest.mark.parametrize("name", ["..%2f..%2fetc", "0" * 16, "*", "%2e%2e", "x" * 300])
def test_no_id_opens_what_is_not_the_histories(served: Served, path: str, name: str) -> None:
    assert served.ask("GET", path.format(name)).status in (400, 404)


def test_an_upload_that_announces_two_gigabytes_is_refused_before_its_bytes(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as wire:
        head = f"POST /photos HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Length: {2**31}\r\n"
        wire.sendall(f"{head}Cookie: inlay-{served.port}={served.token}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: wire.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"at most 512 MB" in answer
    assert served.ask("GET", "/state").status == 200


def test_an_upload_without_end_is_refused_at_the_limit(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LARGEST_UPLOAD", 2**20)
    sent = 0
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as wire:
        head = f"POST /photos HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nTransfer-Encoding: chunked\r\n"
        wire.sendall(f"{head}Cookie: inlay-{served.port}={served.token}\r\n\r\n".encode())
        try:
            for _ in range(2**11):
                wire.sendall(b"10000\r\n" + bytes(2**16) + b"\r\n")
                sent += 2**16
        except OSError:
            pass
    assert sent < 2**26
    assert not list((served.folder / "photos").glob(".incoming*"))
    assert served.ask("GET", "/state").status == 200


def test_every_script_is_asked_for_at_once() -> None:
    preloaded = set(re.findall(r'modulepreload" href="page/(.+?)"', (PAGE / "index.html").read_text()))
    assert preloaded == {file.name for file in PAGE.glob("*.js")} - {"main.js"}


def test_answers_are_not_held_back() -> None:
    with listening("127.0.0.1", 0) as bound:
        assert bound.proto == socket.IPPROTO_TCP  # asyncio sets TCP_NODELAY on these alone


def animation() -> bytes:
    stream = io.BytesIO()
    frames = [Photo.from_image(np.full((8, 8), shade, np.uint8)).image for shade in (0, 200)]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    return stream.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes that claims 100 000 x 100 000 pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = [(13, head), (0, b"IDAT")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", size) + chunk + struct.pack(">I", zlib.crc32(chunk)) for size, chunk in chunks
    )


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (bomb(), "more than the limit"),
        (png()[:200], "damaged or cut short"),
        (b"GIF87a", "not an image|damaged"),
        (b"<svg onload='alert(1)'/>", "not an image"),
        (b"", "empty"),
        (animation(), "2 pictures.*the page opens files of a single picture"),
    ],
    ids=["bomb", "cut short", "no more than a start", "svg", "empty", "animation"],
)
def test_what_is_no_photo_is_refused_by_its_own_name(served: Served, sent: bytes, said: str) -> None:
    sentence = refused(served.ask("POST", "/photos?name=..%2Fmine.png", sent))
    assert re.search(said, sentence)
    assert "mine.png" in sentence
    assert str(served.folder) not in sentence
    assert not list((served.folder / "photos").glob(".incoming*"))


def test_a_raw_file_is_refused_by_the_ending_of_its_name(served: Served) -> None:
    sentence = refused(served.ask("POST", "/photos?name=shot.DNG", png()))
    assert sentence.startswith("shot.DNG is a camera's raw file")
    assert not list((served.folder / "photos").glob("*.dng"))


def test_a_photo_under_the_stored_name_of_another_is_not_taken_for_it(served: Served) -> None:
    first, second = png(31, 20), png(20, 31)
    told = json.loads(served.ask("POST", "/photos?name=zebra.png", first).body)
    other = json.loads(served.ask("POST", f"/photos?name={told['name']}", second).body)
    assert served.ask("GET", f"/photos/{told['photo']}").body == first
    assert served.ask("GET", f"/photos/{other['photo']}").body == second


def test_a_photo_that_browsers_do_not_show_is_read_within_the_pages_own_limit(serve: Serve, tmp_path: Path) -> None:
    history = History(tmp_path)
    file = history.incoming("scan.tif")
    Photo.from_image(np.zeros((20, 30, 3), np.uint8)).save(file)
    photo = history.take_photo(file, "scan.tif")
    assert serve(folder=tmp_path, setup=Setup(max_pixels=600)).ask("GET", f"/photos/{photo}").status == 200
    small = serve(folder=tmp_path, setup=Setup(max_pixels=599))
    assert "more than the limit of 599" in refused(small.ask("GET", f"/photos/{photo}"))


def test_photos_come_back_byte_for_byte_or_as_a_picture_that_browsers_show(served: Served, tmp_path: Path) -> None:
    told = json.loads(served.ask("POST", "/photos?name=My%20Photo.PNG", png(33, 21)).body)
    assert (told["width"], told["height"]) == (33, 21)
    assert served.ask("GET", f"/photos/{told['photo']}").body == png(33, 21)
    pixels = np.random.default_rng(1).integers(0, 256, (8, 9, 3), np.uint8)
    Photo.from_image(pixels).save(tmp_path / "scan.tif")
    told = json.loads(served.ask("POST", "/photos?name=scan.tif", (tmp_path / "scan.tif").read_bytes()).body)
    answer = served.ask("GET", f"/photos/{told['photo']}")
    assert answer.headers["content-type"] == "image/png"
    (tmp_path / "shown.png").write_bytes(answer.body)
    np.testing.assert_array_equal(Photo.open(tmp_path / "shown.png").pixels, pixels)


@pytest.mark.parametrize(
    ("path", "wish", "said"),
    [
        ("/photos/{photo}/mask", {"points": [[400, 3, 1]]}, "outside the photo"),
        ("/photos/{photo}/mask", {"points": [[3, 3, 0]]}, "Nothing is pointed at"),
        ("/photos/{photo}/mask", {"points": [[3, 3, 7]]}, "cannot be read"),
        ("/photos/{photo}/mask", {"box": [1, 1, 1, 1]}, "no area"),
        ("/runs", {"action": "edit"}, "no photo"),
        ("/runs", {"action": "edit", "photo": "{photo}"}, "Nothing is pointed at"),
        ("/runs", {"action": "remove", "photo": "{photo}"}, "Nothing is pointed at"),
        ("/runs", {"action": "extend"}, "no photo"),
        ("/runs", {"action": "extend", "photo": "{photo}", "fields": {"left": "0%"}}, "Nothing is added"),
        ("/runs", {"action": "extend", "photo": "{photo}", "fields": {"left": "far"}}, "neither a number of pixels"),
        ("/runs", {"action": "delete"}, "cannot 'delete'"),
        ("/runs", {"action": "generate", "fields": {"photo": "/etc/passwd"}}, "no field 'photo'"),
        ("/runs", {"action": "generate", "fields": {"layout": "/etc/passwd"}}, "no field 'layout'"),
        ("/runs", {"action": "generate", "fields": {"segmenter": "/tmp"}}, "no field 'segmenter'"),
        ("/runs", {"action": "generate", "fields": {"model": "/tmp/evil"}}, "was not offered"),
        ("/runs", {"action": "generate", "fields": {"steps": "many"}}, "steps"),
        ("/runs", {"action": "generate", "ending": "/../x.png"}, "not as"),
        ("/runs", [], "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    served: Served, photo: str, path: str, wish: object, said: str
) -> None:
    body = json.dumps(wish).replace("{photo}", photo)
    sentence = refused(served.ask("POST", path.format(photo=photo), body))
    assert said in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("query", "body", "said"),
    [
        ("width=8&height=2", zlib.compress(b"\0"), "not one of 8 x 2"),
        ("width=8&height=2", zlib.compress(bytes(2**24)), "not one of 8 x 2"),
        ("width=8&height=2", b"what", "whole"),
        ("width=-8&height=2", b"", "whole number"),
        ("width=999999&height=999999", b"", "none"),
        ("", b"", "whole number"),
    ],
    ids=["short", "inflating", "no deflate", "negative", "huge", "without a size"],
)
def test_a_mask_that_is_none_is_refused(served: Served, query: str, body: bytes, said: str) -> None:
    assert said in refused(served.ask("POST", f"/masks?{query}", body))


def test_a_mask_comes_back_as_it_was_sent(served: Served) -> None:
    mask = np.zeros((30, 41), bool)
    mask[3:20, 7:40] = True
    mask[9, 9] = False
    packed = zlib.compress(np.packbits(mask, axis=1).tobytes())
    name = json.loads(served.ask("POST", "/masks?width=41&height=30", packed).body)["mask"]
    from PIL import Image

    np.testing.assert_array_equal(np.asarray(Image.open(served.folder / "masks" / f"{name}.png")) > 127, mask)
    answer = served.ask("GET", f"/masks/{name}")
    where = json.loads(answer.headers["inlay-mask"])
    assert (where["left"], where["top"]) == (7, 3)
    alpha = np.asarray(Image.open(io.BytesIO(answer.body)).convert("RGBA"))[..., 3]
    np.testing.assert_array_equal(alpha > 127, mask[3:20, 7:40])


def test_fifty_clients_at_once_are_served(served: Served, photo: str) -> None:
    def client(number: int) -> list[int]:
        wish = json.dumps({"points": [[number % 40, 15, 1]]})
        asked = [("GET", "/", None), ("GET", "/state", None), ("POST", f"/photos/{photo}/mask", wish)]
        return [served.ask(method, path, body).status for method, path, body in asked]

    with ThreadPoolExecutor(50) as pool:
        statuses = [status for one in pool.map(client, range(50)) for status in one]
    assert statuses == [200] * 150


def test_the_command_says_first_where_the_page_is(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(png())
    start = "from inlay.cli import main; main()"
    command = [sys.executable, "-c", start, "ui", "photo.png", "--no-browser", "--host", "0.0.0.0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        address = running.stdout.readline()
        assert re.fullmatch(r"http://0\.0\.0\.0:\d+/\?token=[\w-]{32}\n", address)
        assert "Everyone who reaches" in running.stderr.readline()
        port, token = re.findall(r":(\d+)/\?token=(.*)\n", address)[0]
        with socket.create_connection(("127.0.0.1", int(port)), timeout=60) as wire:
            head = f"GET /choices HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"  # takes its time the first time
            wire.sendall(f"{head}Cookie: inlay-{port}={token}\r\nConnection: close\r\n\r\n".encode())
            running.terminate()
            assert "Traceback" not in running.stderr.read()
    assert (tmp_path / "inlay-history" / "photos").is_dir()


def test_the_page_offers_every_format_that_results_have() -> None:
    assert all(f'"{ending}"' in (PAGE / "form.js").read_text() for ending in ENDINGS)


def test_what_somebody_spoilt_in_the_history_hides_nothing_else(serve: Serve, tmp_path: Path) -> None:
    history = History(tmp_path)
    for spoilt in ("", "[]", "{}", '{"records": [{"path": "a.png"}], "notes": []}', '{"records": 3, "notes": []}'):
        (history.new_result("spoilt") / "result.json").write_text(spoilt)
    whole = keep(history, GenerateJob(prompt="a cat", layout=str(history.masks / "0123456789abcdef.json")))
    (entry,) = json.loads(serve(folder=tmp_path).ask("GET", "/history").body)
    assert (entry["result"], entry["places"]) == (whole, []), "its layout is not there, either"


def test_a_history_that_was_moved_finds_its_files(serve: Serve, tmp_path: Path) -> None:
    history, moved = History(tmp_path / "before"), History(tmp_path / "after")
    file = history.incoming("a.png")
    file.write_bytes(png())
    photo = history.photo(history.take_photo(file, "a.png"))
    mask = history.mask(history.keep_mask(np.ones((30, 40), bool)))
    layout = history.keep_layout({"prompt": "a cat", "size": [40, 30], "regions": []})
    gone = str(history.masks / "0123456789abcdef.png")
    shown = Reference(picture=str(photo))
    edit = keep(history, EditJob(prompt="a cat", photo=str(photo), mask=(str(mask), gone), reference=shown))
    generate = keep(history, GenerateJob(prompt="a cat", layout=str(layout)))
    history.folder.rename(moved.folder)
    served = serve(folder=moved.folder)
    row = json.loads(json.loads(served.ask("GET", f"/results/{edit}/0/recipe").body)["row"])
    assert row["photo"] == row["reference"]["picture"] == str(moved.photos / photo.name)
    assert row["mask"] == [str(moved.masks / mask.name), gone]
    row = json.loads(json.loads(served.ask("GET", f"/results/{generate}/0/recipe").body)["row"])
    assert row["layout"] == str(moved.masks / layout.name)


def test_more_of_the_same_never_paints_the_seeds_of_a_run_under_way(tmp_path: Path) -> None:
    made = Server(History(tmp_path), Setup(), "toybox")
    result = keep(made.history, GenerateJob(prompt="a cat", seed=5, num_images=3))
    asked = Request({"type": "http", "path_params": {"result": result}})
    made.work.ask(GenerateJob(prompt="a dog", seed=70, num_images=3))
    with ThreadPoolExecutor(1) as pool:  # another test's browser may have left this thread a loop of its own
        for _ in range(3):
            pool.submit(asyncio.run, made.more(asked)).result()
        made.work.cancel(4)
        pool.submit(asyncio.run, made.more(asked)).result()
    assert [run.job.seed for run in made.work.runs] == [70, 8, 11, 14, 14]


def test_runs_under_way_are_kept_and_of_those_that_are_over_the_newest(tmp_path: Path) -> None:
    made = Server(History(tmp_path), Setup(), "toybox")
    for _ in range(REMEMBERED + 5):
        made.work.ask(GenerateJob(prompt="a cat"))
    assert len(made.work.runs) == REMEMBERED + 5
    for number in range(1, REMEMBERED + 3):
        made.work.cancel(number)
    assert made.work.runs[0].over
    made.work.ask(GenerateJob(prompt="a dog"))
    assert [run.number for run in made.work.runs] == list(range(3, REMEMBERED + 7))


def test_a_photo_that_cannot_be_kept_is_refused_in_words(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    served = serve(folder=tmp_path / "taken")
    assert "cannot be kept" in refused(served.ask("POST", "/photos?name=a.png", png()))


def test_of_two_results_the_later_one_sorts_later_whatever_its_words(tmp_path: Path) -> None:
    history = History(tmp_path)
    first = history.new_result("a zebra")
    time.sleep(0.002)
    second = history.new_result("")
    assert first.name < second.name
