"""Edit a photo: crop, paint, blend, composite."""
