"""What all tests share."""

from hypothesis import HealthCheck, settings

# Noisy machines: time is no promise of a unit test, and examples are the same in every run.
settings.register_profile("here", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")
