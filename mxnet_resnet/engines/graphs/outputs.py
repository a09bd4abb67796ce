"""What the outputs of a graph are: scores of classes, before a softmax or a sigmoid, or something else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.graphs.arithmetic import WITH_ARRAY, WITH_SCALAR
from mxnet_resnet.runs.graph import SIGMOID, SOFTMAX, SOFTMAXES, VARIABLE, Graph, Node, Output

# What changes no value of its first input but the shape or the type.
PASSING = {
    *("Flatten", "flatten", "Reshape", "reshape", "squeeze", "identity", "_copy", "BlockGrad", "Dropout"),
    *("Cast", "cast", "amp_cast", "_contrib_dequantize"),
}
CLASSIFIERS = {"FullyConnected", "Convolution", "dot", "_sg_mkldnn_fully_connected", "_sg_mkldnn_conv"}
# A softmax of these is that of their input.
LOG_SOFTMAXES = {"log_softmax"}
BEHIND = {"log": SOFTMAXES, "exp": LOG_SOFTMAXES}  # of these, what gives nothing but another form of probabilities
CROSS_ENTROPIES = {"softmax_cross_entropy"}  # a loss, of the softmax of its first input
OF_CLASSES = {-1, 1}  # axes of (N, classes) whose softmax gives probabilities of classes
SIGMOIDS = {"sigmoid", "LogisticRegressionOutput"}
MARGINS = {"SVMOutput"}
# What is nearly or wholly the same for inputs that are far from each other.
HIDING = {
    *(SOFTMAXES | SIGMOIDS),
    *("exp", "tanh", "erf", "clip", "sign", "round", "argmax", "argmin", "argsort", "topk", "one_hot"),
}
HIDING_ACTIVATIONS = {"sigmoid", "tanh", "softsign"}
SMALLEST_CLIP = 1e-5  # what keeps probabilities farther off 0 and 1 changes them
PASSED = 8  # operators between one that hides and the output, which may be a sum or a part
LOSSES = {"MakeLoss", "LinearRegressionOutput", "MAERegressionOutput"}  # in prediction what they are given


@dataclass(frozen=True)
class Head:
    """An output of a graph.

    Attributes:
        name: what to call it.
        scores: what the activation is computed of; the output itself where there is none.
        activation: SOFTMAX or SIGMOID, which makes probabilities of scores; None for what is not known to be scores.
        told: whether the graph tells that they are scores; a last dense layer alone does not.
        last: the operator that tells what the output is.
        temperature: what the scores are divided by before the activation.
        clip: the operator that keeps probabilities off 0 and 1 behind the activation.
    """

    name: str
    scores: Output
    activation: str | None
    told: bool
    last: str
    temperature: float = 1.0
    clip: str = ""

    def describe(self) -> str:
        """In words."""
        if self.activation is None:
            return f"{self.name} (what {self.last} gives)"
        return f"{self.name} ({self.activation} of scores)" if self.told else f"{self.name} (perhaps scores)"


def choose(graph: Graph, name: str | None = None) -> tuple[Graph, Head, list[str]]:
    """The part of a graph that computes the scores of classes, which of its outputs they are, and sentences on that.

    ``name`` is of an operator whose output is taken for scores, or for probabilities where that is a softmax or a
    sigmoid. The only output is taken, whatever it is; of several, the one that is behind a softmax, or a sigmoid, or
    else a dense layer. Raises UserError, which lists them, where there is not one of these; and for a name that is not
    there.
    """
    if name is not None:
        head = _find(graph, name)
        return _cut(graph, head), head, _doubt(graph, head)
    heads = [_read(graph, output) for output in graph.heads]
    head = heads[0] if len(heads) == 1 else _choose_of(heads)
    listed = ", ".join(one.describe() for one in heads)
    notes = [f"taking {head.name} of the outputs {listed}: --output names another"] if len(heads) > 1 else []
    if head.clip:
        notes.append(f"leaving out {head.clip}, which changes a probability by at most {SMALLEST_CLIP:g}")
    if head.activation and not head.told:
        notes.append(f"assuming that the output {head.name} is scores of classes before a softmax, as no softmax tells")
    if head.activation == SIGMOID:
        notes.append(f"the output {head.name} is a sigmoid: each probability is of its class alone")
    return _cut(graph, head), head, notes


def find_hiding(graph: Graph) -> Node | None:
    """The operator among the last ones, behind any layer, that hides differences of what the output is computed of."""
    places = {graph.heads[0].node}
    for _ in range(PASSED):
        nodes = [graph.nodes[place] for place in places]
        for node in nodes:
            if node.op in HIDING or (node.op == "Activation" and node.setting("act_type", "") in HIDING_ACTIVATIONS):
                return node
        passed = (node for node in nodes if node.op not in {*CLASSIFIERS, "Pooling", VARIABLE})
        places = {source.node for node in passed for source in node.inputs}
    return None


def _cut(graph: Graph, head: Head) -> Graph:
    """The part of a graph that computes the scores of an output."""
    part = graph.up_to(head.scores)
    if head.temperature == 1:
        return part
    divided = Node("_div_scalar", "temperature", {"scalar": str(head.temperature)}, part.heads)
    return replace(part, nodes=(*part.nodes, divided), heads=(Output(len(part.nodes)),))


def _choose_of(heads: Sequence[Head]) -> Head:
    kinds = [(SOFTMAX, True), (SIGMOID, True), (SOFTMAX, False)]
    for kind in kinds:
        found = [head for head in heads if (head.activation, head.told) == kind]
        if len(found) == 1:
            return found[0]
        if found:
            break
    listed = ", ".join(head.describe() for head in heads)
    raise UserError(f"the graph has several outputs: {listed}; --output NAME says which is scores of classes")


def _find(graph: Graph, name: str) -> Head:
    names = [node.name for node in graph.nodes if node.op != VARIABLE]
    wanted = name.removesuffix("_output") if name not in names else name
    if wanted not in names:
        listed = ", ".join(graph.nodes[head.node].name for head in graph.heads)
        raise UserError(f"the graph has no operator {name}; its outputs: {listed}")
    place = next(place for place, node in enumerate(graph.nodes) if node.op != VARIABLE and node.name == wanted)
    head = _read(graph, Output(place))
    return head if head.activation else Head(name, Output(place), SOFTMAX, True, head.last)


def _read(graph: Graph, output: Output) -> Head:
    """What an output is, by the last operators."""
    node = graph.nodes[output.node]
    name = f"{node.name}, number {output.number}" if output.number else node.name
    inner = _skip(graph, output)
    last, clip = graph.nodes[inner.node], ""
    if _clips_nothing(last):
        before = graph.nodes[_skip(graph, last.inputs[0]).node]
        last, clip = (before, last.name) if before.op in SOFTMAXES | SIGMOIDS else (last, "")
    if last.op in BEHIND:
        before = graph.nodes[_skip(graph, last.inputs[0]).node]
        last = before if before.op in BEHIND[last.op] else last
    if last.op in SOFTMAXES | LOG_SOFTMAXES and int(last.setting("axis", -1)) in OF_CLASSES:
        return Head(name, last.inputs[0], SOFTMAX, True, last.op, float(last.setting("temperature", None) or 1), clip)
    if last.op in CROSS_ENTROPIES:
        return Head(name, last.inputs[0], SOFTMAX, True, last.op)
    if last.op in MARGINS:
        return Head(name, last.inputs[0], SOFTMAX, False, last.op)
    if last.op in SIGMOIDS or (last.op == "Activation" and last.setting("act_type", "") == "sigmoid"):
        return Head(name, last.inputs[0], SIGMOID, True, "sigmoid", clip=clip)
    if last.op in LOSSES:
        return Head(name, last.inputs[0], None, False, last.op)
    scores = _is_classifier(graph, inner)
    return Head(name, output, SOFTMAX if scores else None, False, last.op)


def _clips_nothing(node: Node) -> bool:
    """Whether a node leaves probabilities as they are, but for those next to 0 and 1."""
    low, high = (node.setting(name, None) for name in ("a_min", "a_max"))
    known = node.op == "clip" and all(isinstance(bound, (int, float)) for bound in (low, high))
    return known and low <= SMALLEST_CLIP and high >= 1 - SMALLEST_CLIP


def _doubt(graph: Graph, head: Head) -> list[str]:
    """What speaks against an output that was named as scores, in a sentence."""
    hiding = find_hiding(graph.up_to(head.scores)) if head.last not in SOFTMAXES else None
    if hiding is None:
        return []
    return [f"taking {head.name} for scores before a softmax, as --output says, though it is behind a {hiding.op}"]


def _skip(graph: Graph, output: Output) -> Output:
    while (node := graph.nodes[output.node]).op in PASSING:
        output = node.inputs[0]
    return output


def _is_classifier(graph: Graph, output: Output) -> bool:
    """Whether an output is a dense layer's, or a sum or multiple of such, or a mean of a convolution."""
    node = graph.nodes[_skip(graph, output).node]
    if node.op in CLASSIFIERS:
        return True
    if node.op in WITH_SCALAR:
        return _is_classifier(graph, node.inputs[0])
    if node.op in WITH_ARRAY:
        others = [source for source in node.inputs if graph.nodes[source.node].op != VARIABLE]
        return bool(others) and all(_is_classifier(graph, source) for source in others)
    return node.op == "Pooling" and _is_convolution(graph, graph.nodes[node.inputs[0].node])


def _is_convolution(graph: Graph, node: Node) -> bool:
    """Whether a node is a convolution, or the ReLU of one, as in SqueezeNet."""
    if node.op == "relu" or (node.op == "Activation" and node.setting("act_type", "") == "relu"):
        node = graph.nodes[node.inputs[0].node]
    return node.op in ("Convolution", "_sg_mkldnn_conv")
