"""Which precision a machine gets."""

import pytest
import torch
from inlay.weights import device
from inlay.weights.device import LARGE, pick_dtype
from inlay.weights.doctor import precision
from inlay.weights.parts import weight_bytes


@pytest.mark.parametrize(
    ("place", "size", "able", "expected"),
    [
        ("cpu", LARGE, True, torch.bfloat16),
        ("cpu", LARGE - 1, True, torch.float32),
        ("cpu", LARGE, False, torch.float32),
        ("cuda", 0, False, torch.float16),
        ("mps", LARGE, True, torch.float32),
    ],
)
def test_auto_knows_the_machine(
    monkeypatch: pytest.MonkeyPatch, place: str, size: int, able: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(device, "multiplies_bfloat16", lambda: able)
    assert pick_dtype("auto", torch.device(place), size) == expected
    assert pick_dtype("float32", torch.device(place), size) == torch.float32


def test_the_doctor_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "multiplies_bfloat16", lambda: True)
    assert precision(torch.device("cpu")) == "float32, large models in bfloat16"
    assert precision(torch.device("cuda")) == "float16"


def test_the_size_is_that_of_the_unet_that_is_read(model_folder) -> None:
    folder = model_folder("sd1")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    assert weight_bytes(folder) == weight_bytes(file) == file.stat().st_size
    assert weight_bytes(folder / "scheduler") == 0
