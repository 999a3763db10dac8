"""Reads TensorBoard's event files without TensorBoard."""

import struct
from collections import defaultdict


def read_events(folder):
    """Yields all events of a folder, file by file, in TensorBoard's order."""
    from tensorboardX.proto import event_pb2

    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            # Length, its checksum, the event, its checksum.
            (length,) = struct.unpack_from("<Q", content)
            event = event_pb2.Event()
            event.ParseFromString(content[12 : 12 + length])
            yield event
            content = content[16 + length :]


def read_curves(folder):
    """Returns the curves that TensorBoard shows: a list of (step, value) by tag."""
    from tensorboardX.proto.event_pb2 import SessionLog

    curves = defaultdict(list)
    for event in read_events(folder):
        if event.session_log.status == SessionLog.START:
            for tag, points in curves.items():
                curves[tag] = [point for point in points if point[0] < event.step]
        for value in event.summary.value:
            if kind := value.WhichOneof("value"):  # hyperparameters have none
                curves[value.tag].append((event.step, getattr(value, kind)))
    return curves
