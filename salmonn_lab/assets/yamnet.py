"""YAMNet from the ONNX graph that Qualcomm exports to the folder that `salmonn_lab.model.yamnet` loads."""

from __future__ import annotations

import csv
import tempfile
import zipfile
from pathlib import Path

from salmonn_lab.assets.table import Report


def read_class_names(path: Path) -> list[str]:
    """Return AudioSet's display names in the order of the classifier's outputs."""
    with path.open(newline="") as file:
        return [row["display_name"] for row in csv.DictReader(file)]


def convert(folder: Path, graph: Path, class_map: Path, report: Report) -> None:
    """Write a YAMNet folder.

    The graph quantises at run time what it stores in float32: those stored weights are taken, batch norms folded in.

    Args:
        folder: where to write.
        graph: a zip with one `.onnx` file and its external data.
        class_map: the CSV of class names.
        report: told what is being done, and how much of it.

    Raises:
        ValueError: the graph is not YAMNet's.
    """
    import onnx
    import torch

    from salmonn_lab.model.yamnet import Yamnet

    report("converting", 0, 1)
    with tempfile.TemporaryDirectory(dir=folder.parent) as extracted:
        zipfile.ZipFile(graph).extractall(extracted)
        (path,) = Path(extracted).rglob("*.onnx")
        network = onnx.load(path).graph
    stored = {entry.name: entry for entry in network.initializer}

    def weight(name: str) -> torch.Tensor:
        return torch.tensor(onnx.numpy_helper.to_array(stored[name.removesuffix("_qdq")]))

    model = Yamnet(read_class_names(class_map))
    found = [node for node in network.node if node.op_type == "Conv"]
    layers = list(model.convolutions)
    if len(found) != len(layers) or model.classifier is None:
        raise ValueError(f"{graph.name} has {len(found)} convolutions and {class_map.name} names, not those of YAMNet")
    state = {"classifier.weight": weight("model.classifier.weight"), "classifier.bias": weight("model.classifier.bias")}
    for index, (node, layer) in enumerate(zip(found, layers, strict=True)):
        strides = next(tuple(entry.ints) for entry in node.attribute if entry.name == "strides")
        if strides != layer.stride:
            raise ValueError(f"{graph.name}: convolution {index} has strides {strides}, expected {layer.stride}")
        state[f"convolutions.{index}.weight"] = weight(node.input[1])
        state[f"convolutions.{index}.bias"] = weight(node.input[2])
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{graph.name} does not hold YAMNet's weights: {error}") from error
    model.save_pretrained(folder)
    report("converting", 1, 1)
