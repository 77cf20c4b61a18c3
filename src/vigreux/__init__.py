"""Vigreux: distil a trained network into a smaller one through a curriculum."""
