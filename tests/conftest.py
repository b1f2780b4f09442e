from hypothesis import settings

# The same examples on every run and no clock: a slow machine must not fail a test, a red test must be red again.
settings.register_profile("modgraph", deadline=None, derandomize=True)
settings.load_profile("modgraph")

# Long checks are run by `make long`; importing them here would need their libraries.
collect_ignore = ["long"]
