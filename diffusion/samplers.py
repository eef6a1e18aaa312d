"""The samplers by name, and those that are refused; known before PyTorch is."""

from ..errors import UsageError

SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
    "dpm++2m": "DPMSolverMultistepScheduler",
    "deis": "DEISMultistepScheduler",
    "lms": "LMSDiscreteScheduler",
    "lcm": "LCMScheduler",
    "tcd": "TCDScheduler",
}
"""Samplers whose step reads the sample that it is given, so that guidance and blending between steps are not lost."""

DISCARDING = ("pndm", "heun", "kdpm2", "kdpm2-a", "unipc", "dpm++2s", "dpm++singlestep")
"""Samplers that carry on from a sample of their own and discard what is changed between steps."""

TRAILING = ":trailing"
"""Behind a sampler's name: timesteps counted back from the last, as models for few steps need them (Lin et al. 2024,
"Common Diffusion Noise Schedules and Sample Steps are Flawed", section 3.3)."""


def check_scheduler(name: str) -> str:
    """A name that is one of `SCHEDULERS`, with or without `TRAILING`; as it is.

    Raises:
        UsageError: an unknown name, or a sampler that discards changes made between steps.
    """
    sampler = name.removesuffix(TRAILING)
    if sampler in DISCARDING:
        raise UsageError(
            f"The scheduler {sampler} discards what is changed between steps, so nothing could be blended or guided; "
            f"choose one of {', '.join(SCHEDULERS)}."
        )
    if sampler not in SCHEDULERS:
        raise UsageError(f"There is no scheduler {sampler!r}; choose one of {', '.join(SCHEDULERS)}.")
    return name
