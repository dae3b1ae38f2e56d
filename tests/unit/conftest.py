"""Hypothesis without deadlines: the time of an example says nothing on a shared machine."""

from hypothesis import settings

settings.register_profile("unit", deadline=None)
settings.load_profile("unit")
