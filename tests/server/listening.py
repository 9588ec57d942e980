"""Something that listens and is no server of ours."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager, suppress
from itertools import count


def free_port():
    """A port that is free now, and not one that the kernel gives to whoever asks for any."""
    return next(filter(is_free, count(10_000 + os.getpid() % 10_000)))


def is_free(port):
    with suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return True
    return False


@contextmanager
def answering(answer):
    """The address of something that does the same with each connection, in a thread of its own."""

    def serve(connection):
        with connection:
            answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            with suppress(OSError):  # to close it alone wakes nobody who waits for a connection
                listener.shutdown(socket.SHUT_RDWR)
            accepting.join(10)
