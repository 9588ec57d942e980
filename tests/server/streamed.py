"""Raw calls as messages of one stream, for tests of what a server makes of them."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import grpc
from guarded import METHODS, bearer

from ehub.wire import ehub_pb2 as pb

CODES = {code.value[0]: code for code in grpc.StatusCode}


@contextmanager
def one_stream(channel, token=None):
    """What makes calls on one stream: given method and request, the answer."""
    more, ready = [], threading.Semaphore(0)

    def messages():
        while True:
            ready.acquire()
            if (message := more.pop()) is None:
                return
            yield message

    answers = METHODS["Calls"].call(channel)(messages(), metadata=bearer(token) if token else None)

    def call(method, request=b"", **told):
        data = request if isinstance(request, bytes) else request.SerializeToString()
        more.append(pb.CallRequest(method=method, request=data, **told))
        ready.release()
        return next(answers)

    try:
        yield call
    finally:
        more.append(None)
        ready.release()
        answers.cancel()


def counted(space="items"):
    return pb.CountRequest(target=pb.Target(space=space))


def outcome(answer):
    """Code and what is told."""
    code = CODES[answer.code]
    return (None, None) if code is grpc.StatusCode.OK else (code, answer.error.message)
