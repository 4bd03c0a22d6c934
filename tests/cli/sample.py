"""Sources of small projects."""

JOB = """
from playhead import Client, event_trigger

client = Client("{client}")


@client.job(id="{id}", name="{id}", version="1.0.0", trigger=event_trigger("{event}"))
async def job(payload, io):
    return {{"done": True}}
"""


def job_file(job_id: str, *, event: str = "user.created", client: str = "acme") -> str:
    """A module with one job."""
    return JOB.format(id=job_id, event=event, client=client)
