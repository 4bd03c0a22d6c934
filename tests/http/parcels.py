"""Typed events of these tests alone: the catalog's names belong to the catalog."""

from __future__ import annotations

from playhead import TypedEvent


class ParcelShipped(TypedEvent, name="parcel.shipped", key="parcel_id"):
    parcel_id: str
    weight_grams: int
