"""Looks at uploaded files and says so: the first link of a chain, `file.uploaded` → `file.processed` → `index-file`."""

from __future__ import annotations

from playhead import IO, Client, event_trigger, send_event
from playhead_schemas.file import FileProcessed, FileUploaded

client = Client("acme")


@client.job(id="process-upload", name="Process Upload", version="1.0.0", trigger=event_trigger(FileUploaded))
async def process_upload(payload: FileUploaded, io: IO) -> dict[str, bool]:
    io.logger.info("processing file", filename=payload.filename)
    if payload.size_bytes == 0:
        # A bad file is no failure of this job: nothing would be better at the next attempt. It is an event.
        await send_event(
            FileProcessed(file_id=payload.file_id, processing_result="failure", reason="empty", user_id=payload.user_id)
        )
        return {"success": False}
    # send_event finds the run that it is called in: this event is committed together with the run.
    await send_event(FileProcessed(file_id=payload.file_id, processing_result="success", user_id=payload.user_id))
    return {"success": True}
