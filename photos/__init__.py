"""Pictures in and out: Photo, the one reader, the one writer, colour, metadata, sheets."""
