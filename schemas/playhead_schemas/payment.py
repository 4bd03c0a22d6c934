"""Entity `payment`: money that moved, or did not, from the payment provider's webhook."""

from __future__ import annotations

from pydantic import Field

from playhead import TypedEvent
from playhead_schemas.fields import Amount, Currency, CustomerId, Email, PaymentId


class PaymentProcessed(TypedEvent, name="payment.processed", key="customer_id"):
    """The provider has worked on a payment; whether it succeeded is told by the events that follow.

    An anonymous payment has no customer; its event then has no key either, and no order among its like.
    """

    amount: Amount
    currency: Currency
    customer_id: CustomerId | None = None


class PaymentSucceeded(TypedEvent, name="payment.succeeded", key="customer_id"):
    """The money has arrived."""

    amount: Amount
    currency: Currency
    customer_id: CustomerId
    payment_id: PaymentId | None = None
    email: Email | None = Field(default=None, description="Where the receipt goes; else to the customer's address.")


class PaymentFailed(TypedEvent, name="payment.failed", key="customer_id"):
    """The money did not arrive, and will not."""

    amount: Amount
    currency: Currency
    customer_id: CustomerId
    payment_id: PaymentId | None = None
    reason: str = Field(description="The provider's words, for the support team; not for the customer.")
