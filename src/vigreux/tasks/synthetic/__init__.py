"""Samples that are drawn from a known law: grammars and sparse parities."""
