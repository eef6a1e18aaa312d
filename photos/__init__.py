"""Pictures in and out: Photo, the one reader, the one writer, colour, metadata, sheets."""

MAX_PIXELS = 178_956_970
"""The largest photo that is opened unless asked: Pillow's own limit, 512 MB of RGB."""
