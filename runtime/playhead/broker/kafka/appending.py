"""Appending outside transactions: idempotent, in order, as many records in a request as have gathered.

    append ──▶ queue of each partition ──▶ one request at a time to each leader ──▶ a result for each record

While a request is on its way, what arrives gathers for the next: a lone record waits for nothing, a flood goes out in
whole batches. A batch keeps its sequence number until the broker has answered for it, so repeating it is idempotent
(KIP-98), and a refused batch takes none. (aiokafka's producer counts on after a refusal, so every later batch of the
partition is out of order.)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from aiokafka.protocol.transaction import InitProducerIdRequest

from playhead.broker.contract import Partition, Record, TopicInfo
from playhead.broker.kafka import faults, wire
from playhead.broker.kafka.append_queue import Call, Parcel, Queue, Result
from playhead.broker.kafka.faults import Next
from playhead.broker.kafka.link import APPEND, Link, LostError, Patience
from playhead.broker.kafka.topics import Topics
from playhead.broker.kafka.transactional_id import Producer
from playhead.clock import Clock
from playhead.errors import BrokerUnavailable, EventTooLarge, InvalidInput, NotAuthorized, PlayheadError

logger = logging.getLogger(__name__)

PRODUCE_TIMEOUT_MS = 8_000
"""How long a leader waits for its replicas before it answers that they were too slow."""
_FOR_EVER_SECONDS = 1e9

Answer = tuple[int, int, str, list[int]]
"""(code, base offset, message, places in the batch that are refused) of one batch."""


class Appender:
    """Appends for one process."""

    def __init__(self, link: Link, topics: Topics, clock: Clock, limit_seconds: float) -> None:
        self._link = link
        self._topics = topics
        self._clock = clock
        self._limit_seconds = limit_seconds
        self._producer: Producer | None = None
        self._queues: dict[Partition, Queue] = {}
        self._busy: dict[Partition, Queue] = {}
        self._senders: dict[int | None, asyncio.Task[None]] = {}

    async def append(self, records: Sequence[Record]) -> list[Result]:
        """See `playhead.broker.contract.Broker.append`."""
        call = Call(len(records))
        if not records:
            return []
        until = self._clock.monotonic() + self._limit_seconds
        await self._accept(records, call)
        if not call.done.done():
            self._dispatch()
            await asyncio.wait({call.done}, timeout=max(0.0, until - self._clock.monotonic()))
        if not call.done.done():
            for queue in self._busy.values():
                queue.forget(call)
            late = BrokerUnavailable(f"the broker did not acknowledge within {self._limit_seconds:g} s.")
            call.settle(range(len(records)), [late] * len(records))
        return [result for result in call.results if result is not None]

    async def close(self) -> None:
        """Wait for what is on its way, not longer than an append would."""
        until = self._clock.monotonic() + self._limit_seconds
        while (senders := list(self._senders.values())) and (left_seconds := until - self._clock.monotonic()) > 0:
            await asyncio.wait(senders, timeout=left_seconds)
        self._busy.clear()  # else each sender, as it ends, would leave what it has to another that nobody waits for
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)

    async def _accept(self, records: Sequence[Record], call: Call) -> None:
        """Put every record whose topic takes it into its partition's queue."""
        verdicts: dict[str, TopicInfo | PlayheadError] = {}
        for topic in {record.topic for record in records}:
            verdicts[topic] = self._topics.known(topic) or await self._look_up(topic)
        parcels: dict[tuple[str, int], Parcel] = {}
        for place, record in enumerate(records):
            where = record[:2]
            parcel = parcels.get(where)
            if parcel is None:
                verdict = verdicts[record.topic]
                if isinstance(verdict, TopicInfo) and not 0 <= record.partition < verdict.partitions:
                    verdict = self._link.unknown(*where)
                if not isinstance(verdict, TopicInfo):
                    call.settle([place], [verdict])
                    continue
                parcel = parcels[where] = Parcel(call)
            parcel.places.append(place)
            parcel.records.append(record)
        for where, parcel in parcels.items():
            partition = Partition(*where)
            queue = self._queues.get(partition)
            if queue is None:
                queue = self._queues[partition] = Queue(partition)
            queue.parcels.append(parcel)
            self._busy[partition] = queue

    async def _look_up(self, topic: str) -> TopicInfo | PlayheadError:
        try:
            return await self._topics.topic(topic)
        except BrokerUnavailable as error:
            return self._topics.peek(topic) or error
        except PlayheadError as error:
            return error

    def _dispatch(self) -> None:
        """Let every busy partition's leader have a sender."""
        for partition in self._busy:
            node = self._link.leader(partition)
            if node not in self._senders:
                name = f"append to node {node}"
                self._senders[node] = asyncio.create_task(self._serve(node), name=name)

    async def _serve(self, node: int | None) -> None:
        """Send to one leader until nothing is left for it. Node None: look for the leader of those that have none."""
        patience = Patience(self._clock, _FOR_EVER_SECONDS)
        try:
            while queues := self._waiting_for(node):
                if node is None:
                    progress = await self._find_leaders(queues)
                else:
                    progress = await self._send(node, queues)
                if progress:
                    patience = Patience(self._clock, _FOR_EVER_SECONDS)
                else:
                    await patience.pause()
        except PlayheadError as error:
            self._fail(error)
        finally:
            del self._senders[node]
            self._dispatch()  # what has another leader by now

    def _waiting_for(self, node: int | None) -> list[Queue]:
        return [q for q in self._busy.values() if not q.flying and self._link.leader(q.partition) == node]

    def _fail(self, error: PlayheadError) -> None:
        """Nothing can be appended at all: these credentials may not."""
        for queue in [queue for queue in self._busy.values() if not queue.flying]:
            queue.settle_all(error)
            self._drop(queue)

    def _drop(self, queue: Queue) -> None:
        self._busy.pop(queue.partition, None)
        self._queues.pop(queue.partition, None)

    async def _find_leaders(self, queues: Sequence[Queue]) -> bool:
        await self._link.relocate({queue.partition.topic for queue in queues})
        await self._drop_unknown(queues)
        return False

    async def _drop_unknown(self, queues: Sequence[Queue]) -> None:
        """Fail what goes to a topic or partition that is not there (any more)."""
        for queue in queues:
            try:
                info = await self._topics.topic(queue.partition.topic, fresh=True)
            except InvalidInput as error:
                queue.settle_all(error)
                self._drop(queue)
            except PlayheadError:
                return  # nobody answers: keep it until somebody does
            else:
                if queue.partition.partition >= info.partitions:
                    queue.settle_all(self._link.unknown(*queue.partition))
                    self._drop(queue)

    async def _send(self, node: int, queues: Sequence[Queue]) -> bool:
        """One request with a batch of each; whether anything came of it."""
        producer = self._producer
        if producer is None:
            producer = self._producer = await self._new_producer()
        topics: dict[str, list[wire.PartitionBatch]] = {}
        for queue in queues:
            if queue.data is None:
                info = self._topics.peek(queue.partition.topic)
                try:
                    queue.fill(producer, info.max_message_bytes if info else None)
                except (TypeError, ValueError, AttributeError) as error:  # a record that is none: the caller's mistake
                    queue.settle_all(error)
            if queue.data is None:  # its callers have given up
                self._busy.pop(queue.partition, None)
                continue
            queue.flying = True
            topics.setdefault(queue.partition.topic, []).append((queue.partition.partition, queue.data))
        if not topics:
            return True
        try:
            request = wire.ProduceRequest(None, PRODUCE_TIMEOUT_MS, list(topics.items()))
            answer = await self._link.send(node, request, APPEND)
        except LostError as lost:
            answers: dict[tuple[str, int], Answer] = {}
            silence: Answer = (faults.LEADER_NOT_AVAILABLE, -1, str(lost), [])
        else:
            answers, silence = _by_partition(answer), (faults.LEADER_NOT_AVAILABLE, -1, "no answer", [])
        finally:
            for queue in queues:
                queue.flying = False
        return await self._take(queues, answers, silence)

    async def _take(self, queues: Sequence[Queue], answers: dict[tuple[str, int], Answer], silence: Answer) -> bool:
        progress, moved = False, []
        for queue in queues:
            if queue.data is None:
                continue
            code, base_offset, message, places = answers.get(queue.partition, silence)
            step = faults.next_after(code)
            if step is Next.DONE:
                queue.acknowledge(base_offset)
            elif step is Next.AGAIN:
                if faults.moved(code):
                    moved.append(queue)
                continue
            elif step in (Next.AFRESH, Next.FENCED):
                logger.warning("%s: %s; appending goes on as a new producer", queue.partition, message)
                queue.begin_anew(await self._new_producer())
            else:
                self._refuse(queue, code, message, places)
            progress = True
            if not queue.parcels and queue.data is None:
                self._busy.pop(queue.partition, None)
        if moved:
            await self._link.relocate({queue.partition.topic for queue in moved})
            await self._drop_unknown(moved)
        return progress

    def _refuse(self, queue: Queue, code: int, message: str, places: Sequence[int]) -> None:
        where = f"{queue.partition.topic}[{queue.partition.partition}]"
        if code == faults.TOPIC_AUTHORIZATION_FAILED:
            queue.settle_all(NotAuthorized(f"these credentials may not write to {where}."))
        elif code in (faults.MESSAGE_TOO_LARGE, faults.RECORD_LIST_TOO_LARGE):
            info = self._topics.peek(queue.partition.topic)
            limit = info.max_message_bytes if info else 0
            queue.refuse((), lambda record: EventTooLarge(_event_name(record), record.size_bytes(), limit))
        else:
            queue.refuse(places, lambda record: InvalidInput(f"{where} refuses a record: {message}."))

    async def _new_producer(self) -> Producer:
        """Producer ids are the cluster's to give; any broker does.

        Raises:
            NotAuthorized.
        """
        patience = Patience(self._clock, _FOR_EVER_SECONDS)
        no_transactions: Any = None  # nullable in the protocol; aiokafka says str
        while True:
            try:
                answer = await self._link.send(self._link.any_node(), InitProducerIdRequest(no_transactions, 0))
            except LostError:
                await patience.pause()
                continue
            code = answer.error_code
            if code == faults.NONE:
                return answer.producer_id, answer.producer_epoch
            if faults.next_after(code) is not Next.AGAIN:
                raise faults.raised(code, "asking for a producer id")
            await patience.pause()


def _by_partition(answer: Any) -> dict[tuple[str, int], Answer]:
    return {
        (topic, index): (
            code,
            base_offset,
            message or faults.name(code),
            [place for place, _, _ in record_errors or ()],
        )
        for topic, entries, _ in answer.topics
        for index, code, base_offset, _, _, record_errors, message, _ in entries
    }


def _event_name(record: Record) -> str:
    return next((text.decode(errors="replace") for name, text in record.headers if name == "ce_type"), record.topic)
