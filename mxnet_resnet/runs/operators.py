"""The operators that the graphs of image classifiers are made of: what each reads, gives, and may be told.

A graph from a file is held against this table before MXNet's C++ sees it (graphcheck.py), for that believes what it is
told: it divides by a ``num_group`` of 0, and ``_Native`` calls the address that it is given. The list is of the nets of
MXNet's and GluonCV's zoos, of insightface, of exporters to MXNet, and of what is written here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Callable, Union

from mxnet_resnet.runs.kinds import (
    AXES,
    AXIS,
    MOST,
    NUMBER,
    ORDER,
    SWITCH,
    TYPE,
    TYPES,
    Kind,
    Settings,
    either,
    floats,
    is_true,
    number,
    read_whole,
    row,
    whole,
    word,
)

Number = Union[int, Callable[[Settings], int]]

LARGEST_WINDOW = 2**15  # a side of a kernel, a stride, a padding
LARGEST_LAYER = 2**26  # channels or classes
_CONTEXT = re.compile(r"((cpu|gpu|cpu_pinned|cpu_shared)\(\d{1,2}\))?")


@dataclass(frozen=True)
class Operator:
    """What is known of an operator.

    Attributes:
        inputs: how many it reads, or what tells that by its settings; of fused ones the graph inside tells it.
        settings: what it may be told, by name.
        required: which of that it must be told.
        outputs: how many it gives, or what tells that by its settings.
        states: places of inputs that it writes to, which must be variables.
        window: whether the settings are those of a window that moves over an image.
        fused: the operators that it may be made of, in order, by the switches that say so.
    """

    inputs: Number = 0
    settings: Mapping[str, Kind] = field(default_factory=dict)
    required: Sequence[str] = ()
    outputs: Number = 1
    states: Sequence[int] = ()
    window: bool = False
    fused: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def count_inputs(self, settings: Settings) -> int:
        """How many inputs it reads, told that."""
        return self.inputs(settings) if callable(self.inputs) else self.inputs

    def count_outputs(self, settings: Settings) -> int:
        """How many outputs it gives, told that."""
        return self.outputs(settings) if callable(self.outputs) else self.outputs


COUNT = whole(1, 4096)
LAYERS = whole(1, LARGEST_LAYER)
LAYOUT = word("None NCW NCHW NCDHW")
CONTEXT = Kind("a device", lambda text: bool(_CONTEXT.fullmatch(text)))
SIZES = row(1, MOST)
NOTES = {  # on variables
    "__dtype__": word("-1 0 1 2 3 4 5 6 7 12"),
    "__shape__": row(-1, MOST, also=("None",)),
    "__storage_type__": word("-1 0"),
    "__force_mirroring__": SWITCH,
    "__mirror_stage__": whole(0, MOST),
}

_MOVES = {"stride": row(1, LARGEST_WINDOW), "pad": row(0, LARGEST_WINDOW)}
_KERNEL = {**_MOVES, "kernel": row(1, LARGEST_WINDOW)}
_TUNING = {"workspace": whole(0, MOST), "cudnn_tune": word("None fastest limited_workspace off"), "cudnn_off": SWITCH}
_CONVOLUTION = {
    **_KERNEL,
    **_TUNING,
    "dilate": row(1, LARGEST_WINDOW),
    "num_filter": LAYERS,
    "num_group": LAYERS,
    "no_bias": SWITCH,
    "layout": LAYOUT,
}
_POOLING = {
    **_KERNEL,
    "pool_type": word("avg lp max sum"),
    "global_pool": SWITCH,
    "cudnn_off": SWITCH,
    "pooling_convention": word("full same valid"),
    "p_value": whole(1, 3, also=("None",)),
    "count_include_pad": either(SWITCH),
    "layout": LAYOUT,
}
_DENSE = {"num_hidden": LAYERS, "no_bias": SWITCH, "flatten": SWITCH}
_CALIBRATION = {name: either(NUMBER) for name in ("min_calib_range", "max_calib_range")}
_NORM = {
    "eps": number(0, 1e3),
    "momentum": number(0, 1),
    "fix_gamma": SWITCH,
    "use_global_stats": SWITCH,
    "output_mean_var": SWITCH,
}
_BATCH_NORM = {**_NORM, **_CALIBRATION, "axis": AXIS, "cudnn_off": SWITCH}
_SOFTMAX = {
    "axis": AXIS,
    "temperature": either(number(1e-30, 1e30)),
    "dtype": word("None float16 float32 float64"),
    "use_length": word("None False false 0"),
}
_LOSS = {"grad_scale": NUMBER, "normalization": word("batch null valid")}
_REDUCTION = {"axis": AXES, "keepdims": SWITCH, "exclude": SWITCH}
_NUMPY_REDUCTION = {"axis": AXES, "keepdims": SWITCH, "dtype": word(TYPES, "None"), "initial": either(NUMBER)}
_SHAPE = {"shape": row(-6, MOST), "reverse": SWITCH, "target_shape": row(0, MOST), "keep_highest": SWITCH}
_NEW_SHAPE = {"newshape": row(-6, MOST), "reverse": SWITCH, "order": word("C")}
_FILLED = {"shape": row(0, MOST), "dtype": TYPE, "ctx": CONTEXT}
_QUANTIZED = {"out_type": word("auto int8 uint8"), **_CALIBRATION}
_FUSED = {
    **_CALIBRATION,
    **dict.fromkeys(
        ("quantized", "with_bn", "with_act", "with_sum", "with_postsum_act", "with_eltwise", "channel_wise_quantize"),
        SWITCH,
    ),
    "enable_float_output": SWITCH,
}


def _with_bias(without: bool = False) -> Callable[[Settings], int]:
    return lambda settings: 2 if is_true(settings, "no_bias", without) else 3


def _counted(name: str = "num_args") -> Callable[[Settings], int]:
    return lambda settings: read_whole(settings[name])


def _outputs_of_norm(settings: Settings) -> int:
    return 3 if is_true(settings, "output_mean_var") else 1


def _outputs_of_fused(settings: Settings) -> int:
    return 3 if is_true(settings, "quantized") and not is_true(settings, "enable_float_output") else 1


def _inputs_of_resizing(settings: Settings) -> int:
    return 2 if settings.get("mode") == "like" else 1


def _alike(names: str, operator: Operator) -> dict[str, Operator]:
    return dict.fromkeys(names.split(), operator)


_STATES = (3, 4)
_COUNTED = {"num_args": COUNT}

OPERATORS: dict[str, Operator] = {
    **_alike(
        "relu sigmoid softsign abs sign negative square sqrt rsqrt cbrt rcbrt exp log log2 log10 log1p expm1 tanh erf "
        "reciprocal floor ceil round rint trunc fix sin cos arctan "
        "_copy identity BlockGrad stop_gradient make_loss Flatten flatten zeros_like ones_like _image_to_tensor "
        "_npx_relu _npx_sigmoid _np_copy _npi_negative _npi_reciprocal _npi_absolute _npi_square _npi_sqrt _npi_exp "
        "_npi_log _npi_tanh",
        Operator(1),
    ),
    **_alike(
        "elemwise_add elemwise_sub elemwise_mul elemwise_div _plus _minus _mul _div _Plus _Minus _Mul _Div _add _sub "
        "_grad_add _maximum _minimum _Maximum _Minimum "
        "broadcast_add broadcast_plus broadcast_sub broadcast_minus broadcast_mul broadcast_div broadcast_maximum "
        "broadcast_minimum broadcast_power _npi_add _npi_subtract _npi_multiply _npi_true_divide",
        Operator(2),
    ),
    **_alike(
        "_plus_scalar _minus_scalar _rminus_scalar _mul_scalar _div_scalar _rdiv_scalar _power_scalar _maximum_scalar "
        "_minimum_scalar _PlusScalar _MinusScalar _RMinusScalar _MulScalar _DivScalar _RDivScalar _PowerScalar "
        "_MaximumScalar _MinimumScalar "
        "_npi_add_scalar _npi_subtract_scalar _npi_rsubtract_scalar _npi_multiply_scalar _npi_power_scalar "
        "_npi_true_divide_scalar _npi_rtrue_divide_scalar",
        Operator(1, {"scalar": NUMBER, "is_int": SWITCH}),
    ),
    **_alike("add_n ElementWiseSum", Operator(_counted(), _COUNTED, ("num_args",))),
    **_alike("mean sum sum_axis max max_axis min min_axis prod", Operator(1, _REDUCTION)),
    **_alike("_npi_mean _np_sum", Operator(1, _NUMPY_REDUCTION)),
    "norm": Operator(1, {"ord": whole(1, 2), "axis": AXES, "keepdims": SWITCH}),
    "Convolution": Operator(_with_bias(), _CONVOLUTION, ("kernel", "num_filter"), window=True),
    "Deconvolution": Operator(
        _with_bias(True),
        {**_CONVOLUTION, "adj": row(0, LARGEST_WINDOW), "target_shape": row(0, LARGEST_WINDOW)},
        ("kernel", "num_filter"),
        window=True,
    ),
    "FullyConnected": Operator(_with_bias(), _DENSE, ("num_hidden",)),
    **_alike("Pooling", Operator(1, _POOLING, window=True)),
    **_alike("BatchNorm _contrib_BatchNormWithReLU", Operator(5, _BATCH_NORM, (), _outputs_of_norm, _STATES)),
    "LayerNorm": Operator(3, {"axis": AXIS, "eps": number(0, 1e3), "output_mean_var": SWITCH}, (), _outputs_of_norm),
    "InstanceNorm": Operator(3, {"eps": number(0, 1e3)}),
    "GroupNorm": Operator(
        3, {"num_groups": LAYERS, "eps": number(0, 1e3), "output_mean_var": SWITCH}, (), _outputs_of_norm
    ),
    "L2Normalization": Operator(1, {"eps": number(0, 1e3), "mode": word("channel instance spatial")}),
    "LRN": Operator(1, {"alpha": NUMBER, "beta": NUMBER, "knorm": NUMBER, "nsize": whole(1, 4095)}, ("nsize",)),
    "Activation": Operator(1, {"act_type": word("relu sigmoid softrelu softsign tanh")}, ("act_type",)),
    "LeakyReLU": Operator(
        lambda settings: 2 if settings.get("act_type") == "prelu" else 1,
        {
            "act_type": word("elu gelu leaky prelu rrelu selu"),
            **dict.fromkeys(("slope", "lower_bound", "upper_bound"), NUMBER),
        },
    ),
    "hard_sigmoid": Operator(1, {"alpha": NUMBER, "beta": NUMBER}),
    "clip": Operator(1, {"a_min": NUMBER, "a_max": NUMBER}, ("a_min", "a_max")),
    "Dropout": Operator(
        1, {"p": number(0, 1), "mode": word("always training"), "axes": AXES, "cudnn_off": either(SWITCH)}
    ),
    **_alike("softmax log_softmax", Operator(1, _SOFTMAX)),
    "SoftmaxActivation": Operator(1, {"mode": word("channel instance")}),
    **_alike(
        "SoftmaxOutput Softmax",
        Operator(
            2,
            {
                **_LOSS,
                "ignore_label": NUMBER,
                **dict.fromkeys(("multi_output", "use_ignore", "preserve_shape", "out_grad"), SWITCH),
                "smooth_alpha": number(0, 1),
            },
        ),
    ),
    **_alike(
        "LogisticRegressionOutput LinearRegressionOutput MAERegressionOutput", Operator(2, {"grad_scale": NUMBER})
    ),
    "softmax_cross_entropy": Operator(2),
    "SVMOutput": Operator(2, {"margin": NUMBER, "regularization_coefficient": NUMBER, "use_linear": SWITCH}),
    "MakeLoss": Operator(1, {**_LOSS, "valid_thresh": NUMBER}),
    **_alike("Concat concat", Operator(_counted(), {**_COUNTED, "dim": AXIS}, ("num_args",))),
    "stack": Operator(_counted(), {**_COUNTED, "axis": AXIS}, ("num_args",)),
    **_alike(
        "SliceChannel split",
        Operator(
            1,
            {"num_outputs": COUNT, "axis": AXIS, "squeeze_axis": SWITCH},
            ("num_outputs",),
            _counted("num_outputs"),
        ),
    ),
    **_alike("Reshape reshape", Operator(1, _SHAPE)),
    **_alike("_np_reshape _npx_reshape", Operator(1, _NEW_SHAPE, ("newshape",))),
    **_alike("expand_dims", Operator(1, {"axis": AXIS}, ("axis",))),
    **_alike("squeeze _np_squeeze", Operator(1, {"axis": AXES})),
    **_alike("transpose _np_transpose", Operator(1, {"axes": ORDER})),
    **_alike("SwapAxis swapaxes", Operator(1, {"dim1": AXIS, "dim2": AXIS})),
    **_alike("reverse flip", Operator(1, {"axis": AXES}, ("axis",))),
    "slice": Operator(
        1,
        {"begin": row(-MOST, MOST, gaps=True), "end": row(-MOST, MOST, gaps=True), "step": row(1, MOST, gaps=True)},
        ("begin", "end"),
    ),
    "slice_axis": Operator(
        1,
        {"axis": AXIS, "begin": whole(-MOST, MOST), "end": either(whole(-MOST, MOST))},
        ("axis", "begin", "end"),
    ),
    "slice_like": Operator(2, {"axes": AXES}),
    **_alike("broadcast_to", Operator(1, {"shape": row(0, MOST)}, ("shape",))),
    **_alike("broadcast_axis broadcast_axes", Operator(1, {"axis": AXES, "size": SIZES}, ("axis", "size"))),
    "broadcast_like": Operator(2),
    **_alike("_zeros _ones", Operator(0, _FILLED, ("shape",))),
    "_full": Operator(0, {**_FILLED, "value": NUMBER}, ("shape", "value")),
    **_alike("Cast cast amp_cast", Operator(1, {"dtype": TYPE}, ("dtype",))),
    "dot": Operator(2, {"transpose_a": SWITCH, "transpose_b": SWITCH, "forward_stype": word("None default")}),
    **_alike(
        "Pad pad",
        Operator(
            1,
            {
                "mode": word("constant edge reflect"),
                "pad_width": row(0, LARGEST_WINDOW),
                "constant_value": NUMBER,
            },
            ("mode", "pad_width"),
        ),
    ),
    "UpSampling": Operator(
        _counted(),
        {
            **_COUNTED,
            "scale": whole(1, 1024),
            "num_filter": whole(0, LARGEST_LAYER),
            "sample_type": word("nearest"),  # a bilinear one reads a weight: nets of this kind have none
            "multi_input_mode": word("concat sum"),
            "workspace": whole(0, MOST),
        },
        ("scale", "sample_type", "num_args"),
    ),
    "_contrib_AdaptiveAvgPooling2D": Operator(1, {"output_size": row(1, LARGEST_WINDOW, longest=2)}),
    "_contrib_BilinearResize2D": Operator(
        _inputs_of_resizing,
        {
            "height": whole(1, LARGEST_WINDOW),
            "width": whole(1, LARGEST_WINDOW),
            "scale_height": either(number(1e-3, 1024)),
            "scale_width": either(number(1e-3, 1024)),
            "mode": word("size like odd_scale to_even_down to_even_up to_odd_down to_odd_up"),
            "align_corners": SWITCH,
        },
    ),
    "_image_normalize": Operator(1, {name: Kind("numbers", floats) for name in ("mean", "std")}),
    "_contrib_quantize_v2": Operator(1, _QUANTIZED, (), 3),
    "_contrib_requantize": Operator(3, _QUANTIZED, (), 3),
    "_contrib_dequantize": Operator(3, {"out_type": word("float32")}),
    "_contrib_quantized_pooling": Operator(3, _POOLING, (), 3, window=True),
    "_contrib_quantized_act": Operator(3, {"act_type": word("relu")}, ("act_type",), 3),
    "_contrib_quantized_flatten": Operator(3, {}, (), 3),
    "_contrib_quantized_elemwise_add": Operator(6, _CALIBRATION, (), 3),
    "_contrib_quantized_elemwise_mul": Operator(6, {**_CALIBRATION, "enable_float_output": SWITCH}, (), 3),
    "_contrib_quantized_concat": Operator(
        lambda settings: 3 * read_whole(settings["num_args"]), {**_COUNTED, "dim": AXIS}, ("num_args",), 3
    ),
    "_contrib_quantized_batch_norm": Operator(7, _BATCH_NORM, (), 3, _STATES),
    "_sg_mkldnn_conv": Operator(
        settings=_FUSED,
        outputs=_outputs_of_fused,
        fused={
            "Convolution": ("Convolution",),
            "with_bn": ("BatchNorm",),
            "with_act": ("Activation", "LeakyReLU", "clip"),
            "with_sum": ("elemwise_add",),
            "with_postsum_act": ("Activation", "LeakyReLU", "clip"),
        },
    ),
    "_sg_mkldnn_fully_connected": Operator(
        settings=_FUSED,
        outputs=_outputs_of_fused,
        fused={
            "FullyConnected": ("FullyConnected",),
            "with_eltwise": ("Activation", "LeakyReLU", "clip", "square", "sqrt", "exp", "abs"),
        },
    ),
}
