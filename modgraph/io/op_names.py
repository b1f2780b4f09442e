"""What torch, ONNX and Keras call operations and activations, and the words for what isn't supported."""

from __future__ import annotations

from typing import Any

# Activations by their names without underscores and capitals; `forward` computes those of the first line.
_COMPUTED = (
    "relu relu6 sigmoid tanh selu silu softplus softsign exp abs gelu leaky_relu elu hardtanh softmax log_softmax"
)
_NAMED = (
    "mish hardswish hardsigmoid logsigmoid tanhshrink softshrink hardshrink celu prelu clamp clip sin cos sqrt rsqrt "
    "erf log log1p sign heaviside where threshold rrelu softmin thresholdedrelu reciprocal shrink softmax2d"
)
ACTIVATIONS = {name.replace("_", ""): name for name in (*_COMPUTED.split(), *_NAMED.split(), "square")}
ACTIVATIONS |= {"swish": "silu"}

# What the operations of torch, ONNX and Keras are called, without underscores and capitals.
_CALLED = {
    "same": """identity zipmap dropout alphadropout featurealphadropout featuredropout gaussiandropout gaussiannoise
        cast to activityregularization contiguous detach clone float double half type cpu cuda typeas positive castlike
        requiresgrad alias tocopy liftfreshcopy dropout1d dropout2d dropout3d""",
    "normalise": """normalize layernorm rmsnorm groupnorm instancenorm layernormalization rmsnormalization lrn
        instancenormalization groupnormalization lpnormalization meanvariancenormalization localresponsenorm
        simplifiedlayernormalization crossmaplrn2d""",
    "pool": """pool maxpool averagepool globalaveragepool globalmaxpool lppool pad resize upsample interpolate maxpool1d
        maxpool2d maxpool3d avgpool1d avgpool2d avgpool3d adaptiveavgpool1d adaptiveavgpool2d adaptiveavgpool3d
        adaptivemaxpool1d adaptivemaxpool2d adaptivemaxpool3d lppool1d lppool2d""",
    "add": "add iadd",
    "sub": "sub isub subtract",
    "rsub": "rsub",
    "mul": "mul imul multiply",
    "div": "div truediv itruediv divide",
    "neg": "neg negative",
    "product": "matmul mm bmm imatmul",
    "convolution": "conv conv1d conv2d conv3d convtranspose convtranspose1d convtranspose2d convtranspose3d",
    "batchnorm": "batchnorm batchnormalization",
    "concatenate": "concat cat concatenate hstack",
    "reduce": "mean amax reducemean reducemax reducesum",
    "transpose": "t numpyt transpose permute swapaxes",
    "reshape": "view reshape unflatten",
    "flatten": "flatten",
    "squeeze": "squeeze",
    "slice": "slice",
    "split": "split splitwithsizes",
    "chunk": "chunk",
    "pow": "pow",
    "glu": "glu",
    "linear": "linear",
    "addmm": "addmm",
    "activation": " ".join(ACTIVATIONS),
}
OPERATIONS = {name: operation for operation, names in _CALLED.items() for name in names.split()}


def key_of(name: str) -> str:
    """Return the name of an operation as the tables have it."""
    return name.replace("_", "").lower()


def unsupported(name: str, kind: str, error: NotSupported, supported: str) -> ValueError:
    """Say which layer isn't supported: what about it isn't, or if that is its kind, which ones are."""
    where = f" in this place: {error}" if str(error) else f": supported are {supported}"
    if not str(error) and ("Attention" in kind or "Transformer" in kind):
        where += "; name an MLP inside with `block`, such as 'layers.0.mlp', or its layers, in order"
    return ValueError(f"layer {name.strip()!r} ({kind}) is not supported{where}")


class NotSupported(Exception):  # noqa: N818 (it never leaves this package: readers turn it into a ValueError)
    """Says what about an operation isn't supported."""


def activation_name(
    name: str, *, slope: Any = None, approximate: Any = None, low: Any = None, high: Any = None, other: bool = False
) -> str:
    """Name an activation with its settings, as `modgraph.forward` knows them; `other` stands for unknown settings."""
    name = ACTIVATIONS.get(key_of(name), name)
    if name in ("leaky_relu", "elu"):
        return f"{name}:{(0.01 if name == 'leaky_relu' else 1.0) if slope is None else slope:.6g}"
    if name == "gelu":
        return "gelu_tanh" if approximate == "tanh" else "gelu"
    if name in ("clip", "clamp", "hardtanh") and not (name == "hardtanh" and low is high is None):
        return {(0, 6): "relu6", (-1, 1): "hardtanh", (0, None): "relu"}.get((low, high), "clip")
    return f"{name} with settings" if other else name
