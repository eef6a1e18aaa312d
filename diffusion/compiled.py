"""Compiled forwards: the transformer blocks of a UNet, which are all alike, by `torch.compile`.

Block by block (diffusers' regional compilation) one kernel serves every layer of a kind, so that the first forward
waits for fewer of them than of a whole UNet. Where a method opens attention, the forward stays as it is.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

from ..errors import UsageError
from ..weights.catalogue import cache_folder

COMPILERS = (os.environ.get("CXX", "c++"), "g++", "clang++")


def compile_blocks(unet: Any) -> None:
    """Let a UNet's blocks be compiled when they first run; what was compiled is kept for later runs in inlay's cache.

    Raises:
        UsageError: there is no C++ compiler, which kernels are built by.
    """
    if not any(shutil.which(name) for name in COMPILERS):
        raise UsageError("--compile needs a C++ compiler, and there is none here; install g++, or leave it out.")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "compiled"))
    unet.compile_repeated_blocks()
