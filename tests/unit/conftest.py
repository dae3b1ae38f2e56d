"""Hypothesis with half its examples, and without limits of time, which says nothing on a shared machine."""

from hypothesis import HealthCheck, settings

settings.register_profile("unit", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")
