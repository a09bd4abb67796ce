"""A small graph of each operator that graphs from files may have: images, a convolution, it, and a dense layer."""

from __future__ import annotations

import json

from mxnet_resnet.runs.operators import OPERATORS

WINDOW = {"kernel": "(3, 3)", "stride": "(2, 2)", "pad": "(1, 1)"}
SHAPE = {"shape": "(1, 4, 8, 8)"}
TOLD = {  # what an operator, and those like it, is told to work on (N, 4, 8, 8)
    "add_n": {"num_args": "2"},
    "_plus_scalar": {"scalar": "2.0"},
    "mean": {"axis": "(2, 3)"},
    "_npi_mean": {"axis": "(2, 3)"},
    "norm": {"ord": "2", "axis": "(2, 3)"},
    "Convolution": {**WINDOW, "num_filter": "4", "num_group": "2", "dilate": "(1, 1)", "layout": "NCHW"},
    "Deconvolution": {**WINDOW, "num_filter": "4", "adj": "(1, 1)"},
    "FullyConnected": {"num_hidden": "4"},
    "Pooling": {**WINDOW, "pool_type": "avg", "pooling_convention": "full", "count_include_pad": "False"},
    "GroupNorm": {"num_groups": "2"},
    "LRN": {"nsize": "3"},
    "Activation": {"act_type": "relu"},
    "LeakyReLU": {"act_type": "prelu"},
    "clip": {"a_min": "0", "a_max": "6"},
    "Dropout": {"p": "0.5"},
    "Concat": {"num_args": "2"},
    "stack": {"num_args": "2"},
    "SliceChannel": {"num_outputs": "2"},
    "Reshape": {"shape": "(0, -1)"},
    "_np_reshape": {"newshape": "(1, -1)"},
    "expand_dims": {"axis": "2"},
    "transpose": {"axes": "(0, 2, 3, 1)"},
    "SwapAxis": {"dim1": "1", "dim2": "2"},
    "reverse": {"axis": "2"},
    "slice": {"begin": "(None, 1, 0, 0)", "end": "(None, None, 7, 7)", "step": "(None, 1, 2, 1)"},
    "slice_axis": {"axis": "1", "begin": "1", "end": "None"},
    "broadcast_to": {"shape": "(0, 0, 0, 0)"},
    "broadcast_axis": {"axis": "()", "size": "()"},
    "_zeros": SHAPE,
    "_full": {**SHAPE, "value": "2"},
    "Cast": {"dtype": "float32"},
    "dot": {"transpose_b": "True"},
    "Pad": {"mode": "constant", "pad_width": "(0, 0, 0, 0, 1, 1, 1, 1)", "constant_value": "0"},
    "UpSampling": {"scale": "2", "sample_type": "nearest", "num_args": "1"},
    "_contrib_AdaptiveAvgPooling2D": {"output_size": "(2, 2)"},
    "_contrib_BilinearResize2D": {"height": "5", "width": "6", "align_corners": "False"},
    "_image_normalize": {"mean": "(1, 2, 3)", "std": "(1, 2, 3)"},
}
VARIABLES = {  # what an operator reads behind its first input
    **dict.fromkeys(("Convolution", "Deconvolution", "FullyConnected"), ("weight", "bias")),
    **dict.fromkeys(("BatchNorm", "_contrib_BatchNormWithReLU"), ("gamma", "beta", "moving_mean", "moving_var")),
    **dict.fromkeys(("LayerNorm", "InstanceNorm", "GroupNorm"), ("gamma", "beta")),
    "LeakyReLU": ("gamma",),
}
LABELLED = ("Output", "Softmax")  # endings of names
OF_IMAGES = ("_image_normalize", "_image_to_tensor")  # these take images alone
OF_OTHERS = ("_image_to_tensor", "softmax_cross_entropy")  # of images (N, H, W, C), of scores (N, classes)
OF_INT8 = ("_contrib_quantize", "_contrib_requantize", "_contrib_dequantize", "_sg_")


def list_operators() -> list[str]:
    """Those that have a graph here: all but those of int8, which real graphs have, and those of other inputs."""
    return [name for name in OPERATORS if not name.startswith(OF_INT8) and name not in OF_OTHERS]


def write(name: str) -> str:
    """The JSON of the graph of an operator."""
    known = OPERATORS[name]
    told = next((settings for other, settings in TOLD.items() if OPERATORS[other] is known), {})
    nodes: list[dict] = []

    def add(op: str, called: str, attrs: dict[str, str], *inputs: int) -> int:
        nodes.append({"op": op, "name": called, "attrs": attrs, "inputs": [[place, 0, 0] for place in inputs]})
        return len(nodes) - 1

    data = add("null", "data", {})
    parameters = [add("null", f"first_{ending}", {}) for ending in ("weight", "bias")]
    first = add("Convolution", "first", {"kernel": "(1, 1)", "num_filter": "4"}, data, *parameters)
    first = data if name in OF_IMAGES else add("tanh", "bent", {}, first)
    others = VARIABLES.get(name, ("label",) if name.endswith(LABELLED) else ())
    inputs = [first, *(add("null", f"it_{other}", {}) for other in others)]
    inputs = [*inputs, first][: known.count_inputs(told)]
    last = add(name, "it", told, *inputs)
    if not inputs:
        last = add("broadcast_add", "sum", {}, first, last)
    last = add("Flatten", "flat", {}, last)
    last = add(
        "FullyConnected", "fc", {"num_hidden": "3"}, last, add("null", "fc_weight", {}), add("null", "fc_bias", {})
    )
    add("softmax", "softmax", {}, last)
    variables = [place for place, node in enumerate(nodes) if node["op"] == "null"]
    heads, version = [[len(nodes) - 1, 0, 0]], {"mxnet_version": ["int", 10901]}
    return json.dumps({"nodes": nodes, "arg_nodes": variables, "heads": heads, "attrs": version})
