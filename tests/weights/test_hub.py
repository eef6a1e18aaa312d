"""Hub models: which files are fetched, which cached ones count as ready; what belongs to a model."""

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from inlay.errors import ModelError
from inlay.weights import hub
from inlay.weights.at_hand import download, verify, weights_at_hand
from inlay.weights.catalogue import DETECTORS, EMBEDDED
from inlay.weights.diffusion import belongings, fingerprint
from inlay.weights.parts import choose, lacking, needed, strays

SD15 = [
    *("model_index.json", "README.md", "v1-5-pruned.safetensors", "scheduler/scheduler_config.json"),
    *("tokenizer/vocab.json", "tokenizer/merges.txt", "tokenizer/tokenizer_config.json", "unet/config.json"),
    *(f"unet/diffusion_pytorch_model{kind}" for kind in (".safetensors", ".fp16.safetensors", ".non_ema.safetensors")),
    *("unet/diffusion_pytorch_model.bin", "vae/config.json", "vae/diffusion_pytorch_model.safetensors"),
    *("vae/diffusion_pytorch_model.fp16.safetensors", "text_encoder/config.json", "text_encoder/model.safetensors"),
    *("text_encoder/model.fp16.safetensors", "safety_checker/model.safetensors"),
]


@pytest.mark.parametrize("half", [False, True])
def test_one_variant_is_fetched(half: bool) -> None:
    files = [file for file in needed(SD15, half) if file.endswith((".safetensors", ".bin"))]
    ending = ".fp16.safetensors" if half else "model.safetensors"
    assert [file.partition("/")[0] for file in files] == ["unet", "vae", "text_encoder"]
    assert all(file.endswith(ending) for file in files)
    assert {"tokenizer/vocab.json", "tokenizer/merges.txt", "model_index.json"} <= set(needed(SD15, half))


def test_shards_count_when_all_are_there() -> None:
    names = [f"diffusion_pytorch_model-0000{k}-of-00003.safetensors" for k in (1, 2, 3)]
    chosen = choose(names)
    assert chosen is not None
    assert chosen.files == tuple(names)
    assert choose(names[:2]) is None
    half = choose([*names[:2], "diffusion_pytorch_model.fp16.safetensors"])
    assert half is not None
    assert half.variant == "fp16"
    assert strays([*names, "diffusion_pytorch_model.safetensors"], chosen) == ["diffusion_pytorch_model.safetensors"]


def test_a_model_of_transformers_brings_its_configurations_and_weights() -> None:
    files = ["config.json", "vocab.txt", "model.safetensors", "pytorch_model.bin", "tf_model.h5", "onnx/model.onnx"]
    assert needed(files, half=False) == ["config.json", "vocab.txt", "model.safetensors"]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache; the function makes a snapshot of a model in it."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def snapshot(name: str):
        root = tmp_path / f"models--{name.replace('/', '--')}"
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text("abc")
        (root / "snapshots" / "abc").mkdir(parents=True)
        return root / "snapshots" / "abc"

    return snapshot


def state(name: str) -> str:
    return next((one.state for one in weights_at_hand() if one.name == name), "unlisted")


class UnreachableError(Exception):
    """What an HTTP library may raise: of no class that hub's client promises."""


@pytest.mark.parametrize(
    "get",
    [
        hub.fetch,
        lambda name: hub.fetch_file(name, None, False),
        lambda name: hub.fetch_folder(name, "image_encoder", False),
    ],
)
def test_without_a_connection_one_sentence_says_why(cache, monkeypatch, get) -> None:
    def ask(api: object, name: str) -> None:
        raise UnreachableError("[Errno -2] Name or service not known")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", ask)
    with pytest.raises(
        ModelError, match=r"machine and could not be fetched \(\[Errno -2\] Name or service not known\)"
    ):
        get("owner/name")


def test_a_file_that_a_repository_lacks_is_named(cache, monkeypatch) -> None:
    files = [SimpleNamespace(rfilename="style.safetensors")]
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda api, name: SimpleNamespace(siblings=files))
    with pytest.raises(ModelError, match=r"owner/name has no gone.safetensors; it has style.safetensors"):
        hub.fetch_file("owner/name", "gone.safetensors", False)


def test_a_detector_is_ready_only_with_its_weights(cache) -> None:
    name = DETECTORS[1].name
    assert state(name) == "missing"
    folder = cache(name)
    (folder / "config.json").write_text("{}")
    assert state(name) == "missing"
    with pytest.raises(ModelError, match="is not whole on this machine, it has no weights"):
        hub.fetch(name, offline=True)
    (folder / "model.safetensors").write_bytes(b"x")
    assert state(name) == "ready"


def test_a_diffusion_model_is_listed_when_it_is_whole(cache, model_folder) -> None:
    folder = cache("owner/tiny")
    shutil.copytree(model_folder("sd1"), folder, dirs_exist_ok=True)
    assert state("owner/tiny") == "ready"
    assert set(verify("owner/tiny")["owner/tiny"].values()) == {"ready"}
    for name in ("unet/diffusion_pytorch_model.safetensors", "tokenizer/tokenizer.json", "vae/config.json"):
        kept = (folder / name).read_bytes()
        (folder / name).unlink()
        assert state("owner/tiny") == "unlisted"
        assert lacking(folder)
        (folder / name).write_bytes(kept)


def stored(cache: Any, name: str, source: Path) -> Path:
    """A model as the hub's client keeps it: blobs by their hash, and links to them."""
    folder = cache(name)
    for file in (file for file in source.rglob("*") if file.is_file()):
        blob = folder.parents[1] / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        blob.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, blob)
        link = folder / file.relative_to(source)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(blob)
    return folder


def test_what_is_corrupt_or_gone_is_found_and_fetched_again(cache, monkeypatch, model_folder) -> None:
    folder = stored(cache, "owner/tiny", model_folder("sd1"))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file, whole = "owner/tiny/unet/diffusion_pytorch_model.safetensors", weights.read_bytes()

    def fetched(name: str, **options: object) -> str:
        if not options.get("local_files_only") and not weights.exists():
            weights.write_bytes(whole)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    names = [str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()]
    monkeypatch.setattr("inlay.weights.hub.files_of", lambda name: names)
    weights.resolve().write_bytes(whole[:-1] + b"?")
    assert verify("owner/tiny")["owner/tiny"][file] == "corrupt"
    download("owner/tiny")
    assert weights.read_bytes() == whole
    weights.unlink()
    weights.symlink_to(folder / "gone")
    assert verify("owner/tiny")["owner/tiny"][file] == "missing"
    assert lacking(folder) == "no weights of its unet"
    download("owner/tiny")
    assert weights.read_bytes() == whole


def test_a_damaged_index_hides_no_other_model(cache) -> None:
    (cache("owner/damaged") / "model_index.json").write_text("")
    assert state("owner/damaged") == "unlisted"
    assert state("toybox") == "ready"


def test_a_repository_of_pickles_is_refused_with_what_would_take_them(cache, monkeypatch) -> None:
    files = [file for file in SD15 if not file.startswith("unet/diff") or file.endswith(".bin")]
    monkeypatch.setattr("inlay.weights.hub.files_of", lambda name: files)
    with pytest.raises(ModelError, match="only pickled weights of its unet, which need --allow-pickle"):
        hub.fetch("owner/old", index=True)


def test_a_fingerprint_is_of_the_content_wherever_it_lies(model_folder, tmp_path) -> None:
    one, other = (Path(shutil.copytree(model_folder("sd1"), tmp_path / name)) for name in ("one", "other"))
    assert fingerprint(one) == fingerprint(other)
    large = tmp_path / "large.safetensors"
    content = bytearray(20 << 20)
    large.write_bytes(content)
    before = fingerprint(large)
    for start in (9 << 20, 13 << 20):
        changed = content.copy()
        changed[start : start + (1 << 18)] = b"?" * (1 << 18)
        large.write_bytes(changed)
        assert fingerprint(large) != before
    assert fingerprint(large.rename(tmp_path / "renamed.safetensors")) != before
    large.write_bytes(content)
    assert fingerprint(large.rename(tmp_path / "renamed.safetensors")) == before


def test_a_home_folders_model_brings_what_belongs_to_it(model_folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = shutil.copytree(model_folder("sd1"), tmp_path / "model")
    (folder / "inlay.json").write_text('{"guidance_scale": 2.0}')
    assert belongings("~/model").defaults == {"guidance_scale": 2.0}


def test_what_belongs_to_a_model_is_named_beside_its_weights(model_folder, tmp_path) -> None:
    assert belongings(str(model_folder("sd1"))).defaults == {}
    for name in EMBEDDED:
        own = belongings(name)
        assert (own.defaults["guidance_scale"], own.defaults["scheduler"]) == (3.0, "ddpm")
        assert own.vocabulary is not None
        assert own.vocabulary.unknown("A Cat, and a zyzzyva") == ["zyzzyva"]
        assert len(own.guide.classes) == len(own.vocabulary.things) + 1
    folder = shutil.copytree(model_folder("sd1"), tmp_path / "model")
    (folder / "words.json").write_text(json.dumps({"words": ["cat"], "nouns": {"cat": ["cat", "cats"]}}))
    (folder / "inlay.json").write_text(json.dumps({"guidance_scale": 2.0, "vocabulary": "words.json"}))
    own = belongings(str(folder))
    assert (own.defaults, own.guide) == ({"guidance_scale": 2.0}, None)
    assert own.vocabulary is not None
    assert own.vocabulary.classes == {"cat": 1, "cats": 1}
