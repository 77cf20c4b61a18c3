"""Exact online SGD of two-layer networks, in blocks."""
