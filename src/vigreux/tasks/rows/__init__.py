"""Rows that a Python caller hands over: checked, and made into a task."""
