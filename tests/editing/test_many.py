"""Several jobs through the loop together: each comes out as by itself."""

import numpy as np
import pytest
import torch
from inlay.editing.job import EditJob, GenerateJob, Method
from inlay.editing.sampling import Sample, paint
from inlay.editing.task import Work
from inlay.guidance.base import Guidance
from inlay.guidance.masked_attention import MaskedAttention
from inlay.guidance.regions import Region


@pytest.fixture(scope="module")
def works():
    """Edits that differ in photo, place, prompt, words, seed and count, one with another number of steps."""
    rng = np.random.default_rng(0)

    def one(prompt, box, **settings):
        photo = rng.integers(0, 256, (64, 64, 3), np.uint8)
        mask = np.zeros((64, 64), bool)
        mask[box] = True
        return Work(EditJob(prompt=prompt, **{"steps": 3, **settings}), photo, mask)

    return [
        one("a red cat", np.s_[8:40, 8:40], words=("cat",), seed=5),
        one("a cup", np.s_[0:64, 30:64], words=("cup",), seed=1, num_images=2),
        one("a dog on grass", np.s_[20:50, 10:60], words=("dog",), steps=4),
        one("a blue car", np.s_[8:40, 24:56], words=("car",), negative_prompt="blurred", seed=9),
    ]


def test_a_job_among_others_comes_out_as_by_itself(editor, works):
    together = editor.run_many(works)
    for work, among in zip(works, together, strict=True):
        alone = editor.run(work.job, work.photo, work.mask)
        assert among.seeds == alone.seeds
        assert [record.job for record in among.settings] == [record.job for record in alone.settings]
        for one, other in zip(among.images, alone.images, strict=True):
            assert np.abs(one.pixels.astype(int) - other.pixels).max() <= 1  # rounding to bytes


def test_jobs_that_agree_share_the_loop(editor, works, monkeypatch):
    batches = []
    monkeypatch.setattr(
        "inlay.editing.editor.paint",
        lambda model, job, guidance, samples, *rest: (
            batches.append(len(samples)) or paint(model, job, guidance, samples, *rest)
        ),
    )
    editor.run_many(works)
    assert sorted(batches) == [1, 4]


@pytest.mark.parametrize("name", ["multidiffusion", "removal"])
def test_what_has_no_places_is_sampled_as_by_itself(editor, name):
    """These guide by other noise and other scales, where there is a place."""
    common = {"steps": 6, "method": (Method(name=name),)}
    jobs = [GenerateJob(prompt=prompt, seed=k, **common) for k, prompt in enumerate(("a cat", "a dog"))]
    regions = [Region(np.eye(16, dtype=bool), "cat" if name == "multidiffusion" else ())]
    together = editor.run_many([Work(jobs[0], regions=regions), Work(jobs[1])])
    alone = editor.run(jobs[0], regions=regions), editor.run(jobs[1])
    for one, other in zip(together, alone, strict=True):
        assert np.abs(one.images[0].pixels.astype(int) - other.images[0].pixels).max() <= 1


def test_generations_and_edits_go_together(editor, works):
    job = GenerateJob(prompt="a cat", steps=2, scheduler="ddim")
    edited, generated = editor.run_many([works[0], Work(job)])
    assert (generated.images[0].pixels == editor.run(job).images[0].pixels).all()
    assert edited.settings[0].job.action == "edit"


@pytest.mark.parametrize("guidance", [Guidance(), MaskedAttention(alpha=0.1, fraction=1.0)], ids=repr)
def test_a_sample_does_not_depend_on_its_neighbours(editor, works, guidance):
    job = works[0].job.model_copy(update={"guidance_scale": 5.0, "scheduler": "ddim"})
    tasks = [editor.task(work) for work in works]
    sizes = [task.sizes(editor.model)[0] for task in tasks]
    pairs = zip(tasks, sizes, strict=True)
    samples = [
        one for task, size in pairs if size == sizes[0] for one in task.samples(0, [task.photo] * task.job.num_images)
    ]
    assert len(samples) >= 4
    together = paint(editor.model, job, guidance, samples, sizes[0]).latents
    alone = torch.cat([paint(editor.model, job, guidance, [one], sizes[0]).latents for one in samples])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)


def test_samples_are_what_their_own_seed_makes(editor):
    samples = [Sample(seed, "a cat") for seed in (1, 2)]
    job = GenerateJob(prompt="", steps=2, guidance_scale=3.0, scheduler="ddim")
    one, two = paint(editor.model, job, Guidance(), samples, (64, 64)).latents
    assert (one - two).abs().max() > 0.1
