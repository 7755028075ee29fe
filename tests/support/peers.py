"""A server with nothing behind it, and clients that do what they are told, byte by byte."""

from pathlib import Path

import msgspec

from finetui.engine.link import sockets
from finetui.engine.link.frames import FrameReader, Hello, ServerFrame, encode_frame
from finetui.engine.link.server import Server
from finetui.engine.protocol.commands import AnyCommand
from finetui.engine.protocol.events import AnyEvent, TrainPoint
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.runs.journal import Journal

PATIENCE = 20.0


def point(step: int) -> TrainPoint:
    return TrainPoint(
        epoch=1, step_in_epoch=step, steps=1, loss=1.0, accuracy=0.5, learning_rate=0.1, grad_norm=1.0,
        samples_per_second=100.0, step=step,
    )  # fmt: skip


class Engine:
    """A server with a journal, and no training behind it."""

    def __init__(self, path: Path) -> None:
        self.commands = CommandQueue()
        self.moved: list[Path] = []
        self.server = Server(path, self.commands, on_moved=self.moved.append)
        self.journal = Journal()
        self.server.follow(self.journal)
        self.server.start()

    def say(self, event: AnyEvent) -> None:
        self.server.publish(self.journal.append(event))

    def command(self) -> AnyCommand:
        command = self.commands.take(PATIENCE)
        assert command is not None
        return command


class Peer:
    """A client that does what it is told, byte by byte."""

    def __init__(self, engine: Engine, hello: Hello | None = None) -> None:
        self.socket = sockets.connect(str(engine.server.path))
        self.socket.settimeout(PATIENCE)
        self._reader: FrameReader[ServerFrame] = FrameReader(msgspec.msgpack.Decoder(ServerFrame))
        self._frames: list[ServerFrame] = []
        if hello is not None:
            self.send(hello)

    def send(self, *frames: msgspec.Struct) -> None:
        self.socket.sendall(b"".join(map(encode_frame, frames)))

    def next(self, kind: type) -> ServerFrame:
        """Return the next frame of this kind; those before it are forgotten."""
        while True:
            while self._frames:
                frame = self._frames.pop(0)
                if isinstance(frame, kind):
                    return frame
            data = self.socket.recv(65536)
            assert data, f"the connection was closed before a {kind.__name__} came"
            self._frames += self._reader.feed(data)

    def rest(self) -> list[ServerFrame]:
        """Return all frames up to the end of the connection, for which the engine is waited for."""
        try:
            while data := self.socket.recv(65536):
                self._frames += self._reader.feed(data)
        except ConnectionResetError:
            pass  # dropped with our bytes unread: that, too, is being dropped
        return self._frames
