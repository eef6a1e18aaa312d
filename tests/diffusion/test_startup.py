"""The quick start of the command line: the same model, without what it never uses."""

import importlib
import subprocess
import sys

import pytest
import torch
from inlay.diffusion.model import Model
from inlay.diffusion.startup import absent

CODE = """
import sys, torch
from inlay.diffusion.startup import import_lightly, import_wholly
from inlay.diffusion.model import Model
folder, out = sys.argv[1:]
import_lightly()
model = Model.from_pretrained(folder, device="cpu")
states = model.prompts.encode(["a red cat"]).states
with torch.no_grad():
    output = model.unet(torch.ones(1, 4, 8, 8), 500, states).sample
torch.save(output, out)
unused = {"accelerate", "peft", "scipy", "sympy", "torch._dynamo", "torchvision", "transformers"}
print(sorted(unused & set(sys.modules)))
from inlay.diffusion.schedule import Schedule
Schedule("dpm++2m", {**model.scheduler_config, "use_beta_sigmas": True}, 5)
import_wholly()
from diffusers import StableDiffusionPipeline
print(StableDiffusionPipeline.from_pretrained(folder).unet.config.in_channels)
"""


def test_a_light_start_makes_the_same_model_and_can_be_undone(model_folder, tmp_path):
    folder, out = model_folder("sd1"), tmp_path / "output.pt"
    command = [sys.executable, "-c", CODE, str(folder), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "4"]
    model = Model.from_pretrained(folder, device="cpu")
    with torch.no_grad():
        expected = model.unet(torch.ones(1, 4, 8, 8), 500, model.prompts.encode(["a red cat"]).states).sample
    torch.testing.assert_close(torch.load(out), expected, atol=1e-6, rtol=1e-6)


def test_what_is_absent_comes_back(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with absent("colorsys", "sys"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("colorsys")
        assert importlib.util.find_spec("colorsys") is None
        assert importlib.import_module("sys") is sys, "what is imported already stays"
    assert importlib.import_module("colorsys")
