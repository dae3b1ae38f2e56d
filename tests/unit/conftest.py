"""Hypothesis without deadlines, since the time of an example says nothing on a shared machine, and with half its examples."""

from hypothesis import settings

settings.register_profile("unit", deadline=None, max_examples=50)
settings.load_profile("unit")
