"""What all tests share: the fixtures of a real broker, and property tests without a deadline."""

from hypothesis import settings

pytest_plugins = ["tests.broker_fixture"]

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("playhead", deadline=None)
settings.load_profile("playhead")
