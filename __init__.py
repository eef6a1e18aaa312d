"""Edit real photos with diffusion models."""
