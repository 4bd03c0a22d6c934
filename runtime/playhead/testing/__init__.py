"""Testing jobs: the real engine on the in-memory broker, with a clock that a test moves.

    async def test_welcome_is_sent():
        async with JobHarness(client) as jobs:
            await jobs.send("user.created", {"email": "ada@example.com", "userId": "7"})
            await jobs.settle()
            assert await jobs.payloads("email.sent") == [{"to": "ada@example.com"}]
            assert (await jobs.run_of("welcome")).state == "succeeded"

Nothing imports this package but tests.
"""

from playhead.testing.harness import JobHarness
from playhead.testing.virtual_clock import VirtualClock

__all__ = ["JobHarness", "VirtualClock"]
