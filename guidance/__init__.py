"""Guidance methods: one file per method of the papers, a table of their names, regions that they serve, and layouts."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
