"""The event catalog: one module per entity, which is also one Kafka topic. Importing it makes every event known."""

from playhead_schemas import document, email, file, payment, reminder, test, user

__all__ = ["document", "email", "file", "payment", "reminder", "test", "user"]
