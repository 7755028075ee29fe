"""Clients that no engine should have to suffer: `python offenders.py SOCKET`, told on and off by lines of input.

With each line `on` garbage, half frames, silence, deafness and a hundred dashboards begin at once; with `off` they end.
"""

import os
import random
import selectors
import socket
import sys
import threading
import time

from finetui.engine.link.frames import Hello, encode_frame

GARBAGE_PER_SECOND = 10
DASHBOARDS = 100


def connect(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(2)
    connection.connect(path)
    return connection


def throw_garbage(path: str, over: threading.Event) -> None:
    """Send random bytes over ever new connections."""
    while not over.wait(1 / GARBAGE_PER_SECOND):
        try:
            with connect(path) as connection:
                connection.sendall(random.randbytes(10_000))
        except OSError:
            continue  # refused, or dropped: that is what it is for


def stop_half_way(path: str, over: threading.Event) -> None:
    """Begin a frame, or nothing at all, until dropped; over and over."""
    while not over.is_set():
        try:
            with connect(path) as connection:
                connection.sendall(encode_frame(Hello())[: random.randrange(9)])
                while not over.is_set() and connection.recv(10):
                    pass
        except OSError:
            over.wait(0.1)


def never_read(path: str, over: threading.Event) -> None:
    """Say hello and read nothing, with a buffer that is full soon, until dropped; over and over."""
    while not over.is_set():
        try:
            with connect(path) as connection:
                connection.sendall(encode_frame(Hello(name="deaf")))
                while not over.wait(0.5):
                    connection.sendall(b"")
                    if _is_closed(connection):
                        break
        except OSError:
            over.wait(0.1)


def _is_closed(connection: socket.socket) -> bool:
    poller = selectors.PollSelector()
    poller.register(connection, selectors.EVENT_WRITE)
    return any(mask & selectors.EVENT_READ for _, mask in poller.select(0))


def watch(path: str, over: threading.Event) -> None:
    """Be a hundred dashboards that read everything."""
    connections = []
    for number in range(DASHBOARDS):
        try:
            connections.append(connect(path))
            connections[-1].sendall(encode_frame(Hello(name=f"dashboard {number}", reading=True)))
        except OSError:
            over.wait(0.05)
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        while not over.is_set() and selector.get_map():
            for key, _ in selector.select(0.2):
                try:
                    closed = not key.fileobj.recv(65536)
                except OSError:
                    closed = True
                if closed:
                    selector.unregister(key.fileobj)
            time.sleep(0.05)  # as dashboards do, which draw ten times a second
    for connection in connections:
        connection.close()


def main(path: str) -> None:
    os.nice(19)  # what they cost the engine is asked here, not what they cost the machine
    over = threading.Event()
    threads: list[threading.Thread] = []
    for line in sys.stdin:
        if line.strip() == "on":
            over.clear()
            kinds = sys.argv[2].split(",") if len(sys.argv) > 2 else []
            work = [throw_garbage, *[stop_half_way] * 5, *[never_read] * 5, watch]
            work = [w for w in work if not kinds or w.__name__ in kinds]
            threads = [threading.Thread(target=offend, args=(path, over), daemon=True) for offend in work]
            for thread in threads:
                thread.start()
        else:
            over.set()
            for thread in threads:
                thread.join()
        print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
