"""Guidance methods: one file per method of the papers."""
