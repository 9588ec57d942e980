"""Something that listens and is no server of ours."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager


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

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
