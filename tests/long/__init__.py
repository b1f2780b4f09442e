"""Checks that take minutes and print the figures that the documentation quotes."""
