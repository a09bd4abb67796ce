"""The pages in docs: their code runs, the values they show are right, and the table of networks is up to date."""

from __future__ import annotations

import ast
import contextlib
import io
import re
from unittest import mock

import numpy as np
import pytest

import mxnet_resnet
from mxnet_resnet.engines.mxnet import registry, symbols
from mxnet_resnet.plans import architecture
from tests.helpers import REPOSITORY

LIBRARY, ON_PYTORCH = (REPOSITORY / "docs" / "library.md").read_text(encoding="utf-8").split("\n## On PyTorch\n")
CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
VALUE = re.compile(r"  # (.+)$")
PUBLISHED_MULTIPLY_ADDS = {  # G
    # `_ops` of torchvision's weights
    "resnet18": 1.814,
    "resnet34": 3.664,
    "resnet50": 4.089,
    "resnet101": 7.801,
    "resnet152": 11.514,
    "wide_resnet50_2": 11.398,
    "wide_resnet101_2": 22.753,
    # With the stride in the first convolution, as in arXiv 1512.03385, whose table 1 has 3.8, 7.6 and 11.3
    "gluon_resnet50_v1": 3.86,
    "gluon_resnet101_v1": 7.6,
    "gluon_resnet152_v1": 11.3,
    # Often quoted
    "resnet20": 0.041,
    "preact_wide_resnet28_10": 5.2,
}


def execute(code: str, namespace: dict) -> list[tuple[str, object, object]]:
    """Run a block; of each expression with a comment behind it: its text, its value and the one in the comment."""
    found = []
    lines = code.splitlines()
    for statement in ast.parse(code).body:
        source = "\n".join(lines[statement.lineno - 1 : statement.end_lineno])
        shown = VALUE.search(source)
        if isinstance(statement, ast.Expr) and shown:
            found.append((source, eval(ast.unparse(statement), namespace), ast.literal_eval(shown[1])))
        else:
            exec(compile(ast.Module([statement], []), "docs/library.md", "exec"), namespace)
    return found


@pytest.fixture(scope="module")
def library() -> tuple[dict, list[tuple[str, object, object]], str]:
    """The library page after its code has run: the names defined, the values shown, and what was printed."""
    assert mxnet_resnet.ResNet  # imported, and with it the blocks that there are, before the page adds its own
    namespace: dict = {"__name__": "docs.library"}
    nets, blocks = mock.patch.dict(architecture.MODELS), mock.patch.dict(registry.BLOCKS)
    with nets, blocks, contextlib.redirect_stdout(io.StringIO()) as printed:
        for name in registry.BLOCKS.keys() - {"basic", "bottleneck", "preact_basic", "preact_bottleneck"}:
            del registry.BLOCKS[name]  # one that moved from the page into the package
        shown = [value for block in CODE.findall(LIBRARY) for value in execute(block, namespace)]
    return namespace, shown, printed.getvalue()


def test_the_values_on_the_library_page(library):
    _, shown, _ = library
    assert shown
    for source, value, expected in shown:
        assert value == expected, source


def test_the_values_on_the_library_page_for_pytorch(torch_resnet, monkeypatch):
    from mxnet_resnet.engines.torch import blocks, registry

    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(registry, "BLOCKS", {**registry.BLOCKS})
    assert blocks.BasicBlock is registry.BLOCKS["basic"]
    namespace: dict = {"__name__": "docs.library"}
    shown = [value for block in CODE.findall(ON_PYTORCH) for value in execute(block, namespace)]
    assert shown
    for source, value, expected in shown:
        assert value == expected, source


def test_the_shortcuts_on_the_library_page(library):
    rows = re.findall(r"^\| `\"(\w+)\"`.* \| ([\d,]+) \|$", LIBRARY, re.MULTILINE)
    assert "".join(f"{name} {count}\n" for name, count in rows).replace(",", "") == library[2]


def test_the_classes_on_the_library_page():
    large, small = (18, 34, 50, 101, 152, 200), (20, 32, 44, 56, 110, 164, 1001, 1202)
    wide = ("WideResNet16", "WideResNet28", "WideResNet40", "WideResNet50_2", "WideResNet101_2")
    for name in (*(f"ResNet{depth}" for depth in (*large, *small)), *wide):
        assert issubclass(getattr(mxnet_resnet, name), mxnet_resnet.ResNet)
        assert issubclass(getattr(mxnet_resnet, f"PreAct{name}"), mxnet_resnet.PreActResNet)


def test_the_drop_rates_on_the_library_page():
    assert mxnet_resnet.WideResNet16().features[3][0].dropout._rate == 0.3
    assert mxnet_resnet.ResNet20().features[3][0].dropout is None


@pytest.mark.parametrize("name", ["wide_resnet28_2", "preact_wide_resnet40_10"])
def test_a_wide_net_has_any_width(name):
    width = int(name.rpartition("_")[2])
    assert mxnet_resnet.build(name).out_planes == 64 * width


def test_initialisation_is_as_the_library_page_says():
    import mxnet as mx

    mx.random.seed(0)
    net = mxnet_resnet.ResNet20(classes=1000)
    net.initialize(mx.init.Zero())
    weights = {name: parameter.data().asnumpy() for name, parameter in net.collect_params().items()}
    assert np.std(weights["stage3_unit3_conv2_weight"]) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    for name in ("fc1_weight", "fc1_bias"):
        assert np.abs(weights[name]).max() == pytest.approx(64**-0.5, rel=0.02)

    net = mxnet_resnet.ResNet20(classes=1000, initializer=None)
    net.initialize(mx.init.Zero())
    assert not any(parameter.data().asnumpy().any() for parameter in net.collect_params(".*weight").values())


def test_a_graph_has_the_names_of_the_net(library):
    namespace = library[0]
    symbol = namespace["symbol"]
    names = {*symbol.list_arguments(), *symbol.list_auxiliary_states()} - {"data", "softmax_label"}
    assert names == {parameter.name for parameter in namespace["net"].collect_params().values()}


@pytest.mark.parametrize(("kind", "block"), [("ResNet", "SEBlock"), ("PreActResNet", "PreActSEBlock")])
def test_the_block_of_the_library_page(library, kind, block):
    """Gradients reach every parameter, and the Symbol computes the same as the net."""
    import mxnet as mx

    mx.random.seed(0)
    net = getattr(mxnet_resnet, kind)([(1, 64), (2, 64), (1, 128)], library[0][block], small_images=True, classes=3)
    net.initialize()
    images = mx.nd.random.normal(shape=(4, 3, 8, 8))
    with mx.autograd.record():
        loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()(net(images), mx.nd.array([0, 1, 2, 0]))
    loss.backward()
    trained = {n: p for n, p in net.collect_params().items() if p.grad_req != "null"}
    assert "stage1_unit1_se_squeeze_weight" in trained
    assert not [name for name, parameter in trained.items() if not parameter.grad().asnumpy().any()]

    symbol = symbols.softmax(net)
    units = [name for name in symbol.get_internals().list_outputs() if name.startswith("_plus")]
    assert units == ["_plus0_output", "_plus1_output", "_plus2_output"]
    values = {name: parameter.data() for name, parameter in net.collect_params().items()}
    values.update(data=images, softmax_label=mx.nd.zeros(4))
    bound = symbol.bind(
        mx.cpu(),
        {name: values[name] for name in symbol.list_arguments()},
        aux_states={name: values[name] for name in symbol.list_auxiliary_states()},
    )
    probabilities = bound.forward(is_train=False)[0].asnumpy()
    np.testing.assert_allclose(probabilities, net(images).softmax().asnumpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["ResNet", "PreActResNet"])
def test_a_unit_needs_no_more_than_out_planes(kind):
    import mxnet as mx
    from mxnet.gluon import HybridBlock, nn

    class Unit(HybridBlock):
        def __init__(self, in_planes, planes, *, stride, prefix, **others):
            super().__init__(prefix=prefix)
            assert set(others) == {"shortcut", "width", "drop_rate", "norm"}
            self.out_planes = planes
            with self.name_scope():
                self.conv = nn.Conv2D(planes, 3, stride, 1, in_channels=in_planes)

        def hybrid_forward(self, F, x):
            return self.conv(x)

    net = getattr(mxnet_resnet, kind)([(1, 8), (2, 8), (1, 16)], Unit, zero_init_residual=True, classes=3)
    net.initialize()
    assert net(mx.nd.zeros((1, 3, 32, 32))).shape == (1, 3)


def test_the_table_of_networks_is_up_to_date(command, capsys, tmp_path):
    status, out, _ = command(capsys, "tools/model_table.py", "--out", tmp_path / "models.md")
    assert (status, out) == (0, f"{len(mxnet_resnet.list_models())} networks: {tmp_path / 'models.md'}\n")
    made = (tmp_path / "models.md").read_text(encoding="utf-8")
    kept = (REPOSITORY / "docs" / "models.md").read_text(encoding="utf-8")
    assert made == kept, "run: python tools/model_table.py --out docs/models.md"
    assert sorted(re.findall(r"^\| `(\w+)`", kept, re.MULTILINE)) == mxnet_resnet.list_models()


def test_multiply_adds_are_the_published_ones():
    from mxnet_resnet.commands import model_table

    for name, published in PUBLISHED_MULTIPLY_ADDS.items():
        side, classes = model_table.standard_input(architecture.find(name))
        counted = model_table.multiply_adds(mxnet_resnet.build(name, classes=classes), side)
        decimals = len(str(published).partition(".")[2])
        assert round(counted / 1e9, decimals) == published, name
