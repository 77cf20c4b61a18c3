"""Checks the rows that a Python caller passes, and makes a task from them."""
