"""Field types that several events share, with what each must be."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

UserId = Annotated[
    str, Field(min_length=1, description="Id of the user, as the user service gave it.", examples=["123456"])
]
CustomerId = Annotated[str, Field(min_length=1, description="Id of the paying customer.", examples=["123456"])]
PaymentId = Annotated[str, Field(min_length=1, description="Id of the payment at the payment provider.")]
FileId = Annotated[str, Field(min_length=1, description="Id of the stored file.", examples=["f-1"])]
DocumentId = Annotated[str, Field(min_length=1, description="Id of the document.", examples=["d-1"])]

Email = Annotated[
    str,
    # Not RFC 5322: only sending a message shows that an address exists. This catches a name or an id in its place.
    Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=320, description="An email address.", examples=["user@example.com"]),
]
Amount = Annotated[
    float,
    Field(
        ge=0,
        allow_inf_nan=False,
        description="How much, in units of `currency` (12.5 USD is 12 dollars 50).",
        examples=[100],
    ),
]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", description="ISO 4217 code.", examples=["USD"])]
