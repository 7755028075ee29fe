import msgspec
import pytest
from hypothesis import given, strategies as st

from finetui.engine.link.frames import FrameReader, ProtocolError, ServerFrame, Welcome, encode_frame
from finetui.engine.protocol.commands import AnyCommand, SetFrozen, SetLearningRate
from finetui.engine.protocol.events import AnyEvent, Log


@given(st.lists(st.text(max_size=50), max_size=20), st.integers(1, 17))
def test_frames_survive_any_cutting(messages: list[str], size: int) -> None:
    events = [Log(level="info", message=message, seq=i) for i, message in enumerate(messages)]
    stream = b"".join(map(encode_frame, events))
    reader: FrameReader[AnyEvent] = FrameReader(msgspec.msgpack.Decoder(AnyEvent))
    received = [event for i in range(0, len(stream), size) for event in reader.feed(stream[i : i + size])]
    assert received == events


def test_commands_and_welcome_survive() -> None:
    commands = [SetFrozen(groups=("conv1", "conv2"), frozen=True), SetLearningRate(value=0.02)]
    reader: FrameReader[AnyCommand] = FrameReader(msgspec.msgpack.Decoder(AnyCommand))
    assert reader.feed(b"".join(map(encode_frame, commands))) == commands
    welcome = Welcome(journal="/x", next_seq=3)
    frames: FrameReader[ServerFrame] = FrameReader(msgspec.msgpack.Decoder(ServerFrame))
    assert frames.feed(encode_frame(welcome)) == [welcome]


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0\0\3abc", b"GET / HTTP/1.1\r\n\r\n"])
def test_garbage_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        FrameReader(msgspec.msgpack.Decoder(AnyCommand), limit=1000).feed(data)
