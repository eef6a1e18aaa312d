"""A job from disk to disk: layouts, masks from files, outputs."""
