"""What all tests share: the fixtures of a real broker."""

pytest_plugins = ["tests.broker_fixture"]
