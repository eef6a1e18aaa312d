"""Laws of `background="decoder"`: the outside comes closer to the photo, the model's own decoder stays as it was."""

import numpy as np
import torch
from inlay.diffusion.denoiser import gaussian, generators
from inlay.editing.reconstruct import decode_with_background


def outside_error(decoded, photo, mask):
    return float(((decoded - photo) * (1 - mask)).square().mean())


def test_the_outside_comes_closer_and_the_model_stays(models):
    model = models("sd1")
    before = {name: value.clone() for name, value in model.vae.state_dict().items()}
    latents = gaussian((4, 8, 12), generators([0]))
    photo = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    mask = torch.zeros(32, 48)
    mask[8:24, 10:30] = 1
    plain = model.decode(latents)
    errors = [
        outside_error(decode_with_background(model, latents, photo, mask, steps), photo, mask) for steps in (5, 50)
    ]
    assert outside_error(plain, photo, mask) > errors[0] > errors[1]
    assert torch.equal(decode_with_background(model, latents, photo, mask, 0), plain)
    assert all(torch.equal(value, before[name]) for name, value in model.vae.state_dict().items())
    assert not any(weight.requires_grad for weight in model.vae.parameters())


def test_an_edit_tunes_the_decoder_to_each_candidates_window(editor):
    photo = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    mask = np.zeros((60, 90), bool)
    mask[20:40, 30:60] = True
    plain, tuned = (
        editor.edit(photo, mask, "a red apple", steps=2, num_images=2, feather=6, background=background)
        for background in ("composite", "decoder")
    )
    beyond = np.ones_like(mask)
    beyond[14:46, 24:66] = False
    for one, other in zip(plain.images, tuned.images, strict=True):
        assert (one.pixels != other.pixels).any(-1)[~beyond].any()
        assert np.array_equal(other.pixels[beyond], photo[beyond])
        # in the band the photo fades into what was decoded: nearer to it is less of a step
        band = ~beyond & ~mask
        near, far = (np.abs(made.pixels.astype(int) - photo)[band].mean() for made in (other, one))
        assert near < far
    assert not np.array_equal(tuned.images[0].pixels, tuned.images[1].pixels)
