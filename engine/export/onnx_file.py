"""ONNX files: written by torch's exporter, run by ONNX Runtime."""

from importlib.util import find_spec
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.export.description import INPUT, KEY, LOGITS, PROBABILITIES, Description, parsed
from finetui.engine.export.runner import Floats, Runner
from finetui.engine.export.traced import quietly

OPSET = 18  # the first in which Resize can smooth what it shrinks
_MOST = 2**31 - 2**20  # bytes, of a file of protobuf's, less a margin
_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")


def check_libraries(*names: str) -> None:
    """Raise `BadInput` where one of the libraries `names` (default: all that exporting needs) is not installed."""
    missing = [name for name in names or _LIBRARIES if find_spec(name) is None]
    if missing:
        raise BadInput(f"ONNX files need {' and '.join(missing)}: pip install 'finetui[onnx]'")


def write(program: Any, description: Description, dynamic: bool) -> bytes:
    """Return the graph `program` as an ONNX file with `description` among its metadata. Raises `BadInput`."""
    import torch

    check_libraries()
    size = sum(tensor.nbytes for tensor in (*program.state_dict.values(), *program.constants.values()))
    if size > _MOST:
        raise BadInput(f"an ONNX file holds at most 2 GB, and the weights take {size / 1e9:.1f} GB; export to pt2")
    try:
        with quietly():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=[LOGITS, PROBABILITIES],
                opset_version=OPSET,
            )
            model = exported.model_proto  # type: ignore[union-attr]
    except Exception as error:
        # Whatever torch's exporter raises for an operation that ONNX does not have.
        lines = str(error).strip().splitlines() or ["no message"]
        raise BadInput(
            f"the network cannot be written as ONNX: {reason_of(Exception(lines[0]), 160)}; export to pt2"
        ) from error
    _tidy(model, dynamic)
    model.metadata_props.add(key=KEY, value=msgspec.json.encode(description).decode())
    return bytes(model.SerializeToString(deterministic=True))


def _tidy(model: Any, dynamic: bool) -> None:
    """Call the first dimension by its name, and leave out where on this machine each operation came from."""
    graph = model.graph
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*graph.input, *graph.output, *graph.value_info):
        del value.metadata_props[:]
        dims = value.type.tensor_type.shape.dim
        if dynamic and dims and dims[0].dim_param:
            symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
            if dims[0].dim_param == symbol and value is not graph.input[0]:
                dims[0].dim_param = "batch"
    if dynamic:
        graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    for tensor in graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    del graph.metadata_props[:]
    del model.metadata_props[:]


def open_file(data: bytes, where: str) -> Runner:
    """Return the network in the ONNX file `data`. Raises `BadInput` where its graph is not what it says of itself."""
    session = _session(data, where)
    description = parsed(session.get_modelmeta().custom_metadata_map.get(KEY, ""), where)
    decoding = description.decoding
    inputs, outputs = session.get_inputs(), session.get_outputs()
    kind = "tensor(float)" if description.is_float else "tensor(uint8)"
    wanted = (INPUT, kind, [decoding.channels, decoding.height, decoding.width])
    if [(value.name, value.type, value.shape[1:]) for value in inputs] != [wanted] or [
        (value.name, value.shape[1:]) for value in outputs
    ] != [(name, [len(description.classes)]) for name in (LOGITS, PROBABILITIES)]:
        raise BadInput(f"{where} cannot be used: its graph does not match its description; export it again")

    def run(pixels: npt.NDArray[np.generic]) -> tuple[Floats, Floats]:
        logits, probabilities = session.run([LOGITS, PROBABILITIES], {INPUT: pixels})
        return logits, probabilities

    return Runner(description, run)


def _session(data: bytes, where: str) -> Any:
    check_libraries("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is raised
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own classes of errors have no base but this
        raise BadInput(f"ONNX Runtime cannot open {where}: {reason_of(error, 160)}; export it again") from error
