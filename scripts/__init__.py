"""Checks that take too long for the tests, each printing the figures that the documentation quotes."""
