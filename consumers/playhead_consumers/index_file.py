"""Makes processed files findable: the second link of the upload chain. Its cause is the run of `process-upload`."""

from __future__ import annotations

from playhead import IO, Client, event_trigger
from playhead_schemas.file import FileProcessed

client = Client("acme")


@client.job(
    id="index-file",
    name="Index file",
    version="1.0.0",
    # A field as on the wire, and the value that it must have. Other events start no run.
    trigger=event_trigger(FileProcessed, filter={"processingResult": "success"}),
)
async def index_file(payload: FileProcessed, io: IO) -> dict[str, str]:
    event = io.run.event
    io.logger.info("indexed", file_id=payload.file_id, caused_by=event.causation_id)
    return {"indexed": payload.file_id}
