"""Sprites: fetched with `npm pack`, checked, cached, decoded into one atlas.

The pictures are Microsoft's Fluent Emoji (MIT) as packed by `@lobehub/fluent-emoji-3d` (MIT). They are needed for
training only and are never committed.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...errors import ModelError, UsageError
from .world import Noun

PACKAGE = "@lobehub/fluent-emoji-3d@1.1.0"
TARBALL = "lobehub-fluent-emoji-3d-1.1.0.tgz"
SHA256 = "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58"


def cache_folder() -> Path:
    """Where the tarball is kept: `$XDG_CACHE_HOME/inlay`, else `~/.cache/inlay`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inlay"


def fetch(folder: Path | None = None) -> Path:
    """The checked tarball in `folder`, got with npm if need be. Raises ModelError without npm or on a wrong hash."""
    folder = folder or cache_folder()
    tarball = folder / TARBALL
    if not tarball.exists():
        if shutil.which("npm") is None:
            raise ModelError("Training needs the sprites and npm is not installed; install npm or give --sprites FILE.")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as download:
            command = ["npm", "pack", PACKAGE, "--silent", "--pack-destination", download]
            if subprocess.run(command, capture_output=True).returncode:
                raise ModelError(f"npm could not get {PACKAGE}; check the network or give --sprites FILE.")
            (Path(download) / TARBALL).rename(tarball)
    if hashlib.sha256(tarball.read_bytes()).hexdigest() != SHA256:
        raise ModelError(f"{tarball} has a wrong hash; delete it and start again.")
    return tarball


def decode(tarball: Path, nouns: Sequence[Noun], size: int) -> dict[str, Float[Tensor, "4 s s"]]:
    """Each noun's sprite as premultiplied RGBA in [0, 1], cut to what is visible and centred in a square of `size`."""
    with tarfile.open(tarball) as archive:
        return {
            noun.name: _square(archive.extractfile(f"package/assets/{noun.code}.webp").read(), size)  # type: ignore[union-attr]
            for noun in nouns
        }


def _square(webp: bytes, size: int) -> Float[Tensor, "4 s s"]:
    sprite = Image.open(io.BytesIO(webp)).convert("RGBA")
    sprite = sprite.crop(sprite.getchannel("A").point(lambda alpha: 255 * (alpha > 8)).getbbox())
    side = round(max(sprite.size) * 1.06)  # a transparent rim, so that border sampling fades out
    canvas = Image.new("RGBA", (side, side))
    canvas.paste(sprite, ((side - sprite.width) // 2, (side - sprite.height) // 2))
    rgba = torch.from_numpy(np.asarray(canvas, np.float32) / 255).permute(2, 0, 1)
    premultiplied = torch.cat([rgba[:3] * rgba[3:], rgba[3:]])
    return torch.nn.functional.interpolate(
        premultiplied[None], (size, size), mode="bilinear", antialias=True, align_corners=False
    )[0].clamp(0, 1)


def load_atlas(nouns: Sequence[Noun], size: int, file: Path | None = None) -> Float[Tensor, "nouns 4 s s"]:
    """The atlas of `nouns`, from one decoded `file` (see `save_atlas`) or from the package.

    Raises UsageError if the file lacks a noun.
    """
    if file is None:
        sprites = decode(fetch(), nouns, size)
    else:
        sprites = {name: sprite.float() / 255 for name, sprite in load_file(file).items()}
        missing = [noun.name for noun in nouns if noun.name not in sprites]
        if missing:
            raise UsageError(f"{file} has no sprite of {', '.join(missing)}; write it again with --save-sprites.")
    stacked = torch.stack([sprites[noun.name] for noun in nouns])
    return torch.nn.functional.interpolate(stacked, (size, size), mode="bilinear", antialias=True).clamp(0, 1)


def save_atlas(file: Path, nouns: Sequence[Noun], size: int = 256) -> None:
    """Writes one file of decoded sprites, for training on a machine without npm."""
    save_file({name: (sprite * 255).round().byte() for name, sprite in decode(fetch(), nouns, size).items()}, file)
