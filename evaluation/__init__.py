"""The papers' tables: protocols over COCO-format data, metrics, and one function that runs them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
