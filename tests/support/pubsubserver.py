"""
Pub/Sub's service of topics on loopback: Google's emulator can't be had here. The real client speaks to it by gRPC.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any
from uuid import uuid4

import grpc
from attrs import define, field
from google.pubsub_v1 import GetTopicRequest, PublishRequest, PublishResponse, Topic

TOPIC = "projects/p/topics/t"


@define(eq=False)
class Topics:
    """
    The server, which has one topic, L{TOPIC}.

    @ivar published: the messages that it has taken.
    @ivar code: what it answers instead; None: it takes messages.
    @ivar over: it answers once this is set, as it is at first.
    """

    published: list[str] = field(factory=list)
    code: Any = None
    over: Event = field(factory=Event)

    def publish(self, request: PublishRequest, context: Any) -> PublishResponse:
        self.over.wait()
        if self.code is not None:
            context.abort(self.code, "so it is")
        self._refuse_unknown(request.topic, context)
        self.published += [message.data.decode() for message in request.messages]
        return PublishResponse(message_ids=[uuid4().hex for _ in request.messages])

    def get_topic(self, request: GetTopicRequest, context: Any) -> Topic:
        self._refuse_unknown(request.topic, context)
        return Topic(name=request.topic)

    def _refuse_unknown(self, topic: str, context: Any) -> None:
        if topic != TOPIC:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no {topic}")


@contextmanager
def serving_topics() -> Iterator[tuple[Topics, str]]:
    """Yields the server, and what C{PUBSUB_EMULATOR_HOST} has to be."""
    topics = Topics()
    topics.over.set()
    methods = {
        "Publish": grpc.unary_unary_rpc_method_handler(
            topics.publish, PublishRequest.deserialize, PublishResponse.serialize
        ),
        "GetTopic": grpc.unary_unary_rpc_method_handler(topics.get_topic, GetTopicRequest.deserialize, Topic.serialize),
    }
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", methods)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield topics, f"127.0.0.1:{port}"
    topics.over.set()
    server.stop(0).wait()
