"""Model, attention, schedule and the one denoising loop."""
