"""Vectors of floats as a type of Numba, for `modgraph.sculpt.kernel`.

A row holds one number for each of `LANES` networks; a block holds `ROWS` rows, one for each of as many samples.
Written as loops over arrays, the kernel takes 3.7 times as long or more (`tests/benchmarks/test_bench_sculpt.py`).

Numba caches compiled functions by the file that holds them: after a change here, delete the cache of the kernel.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]  # numba's compiler; it ships no type information
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic, models, overload, register_model

LANES = 8  # networks side by side
ROWS = 8  # samples in a block; a block of 64 floats takes 4 to 16 registers, depending on the processor


class Vector(types.Type):
    """Numba's type of a vector of `size` floats: a row or a block."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.llvm = ir.VectorType(ir.FloatType(), size)
        super().__init__(name=f"Vector{size}")


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, kind.llvm)  # type: ignore[no-untyped-call]


ROW = Vector(LANES)
BLOCK = Vector(LANES * ROWS)


def _pick(builder: Any, vector: Any, places: list[int]) -> Any:
    """Emit the vector of the elements of `vector` at `places`."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)


def _widened(context: Any, builder: Any, value: Any, kind: Any, wanted: Vector) -> Any:
    """Emit `value` as a vector of the `wanted` type: a number is copied to all places, a row to all samples."""
    if kind == wanted:
        return value
    if kind == ROW:
        return _pick(builder, value, [*range(LANES)] * ROWS)
    number = context.cast(builder, value, kind, types.float32)
    vector = builder.insert_element(ir.Constant(ROW.llvm, ir.Undefined), number, ir.IntType(32)(0))
    return _pick(builder, vector, [0] * wanted.size)


def _operation(emit: Callable[..., Any], arity: int, result: Vector | None = None) -> Any:
    """Return a function of `arity` vectors and numbers, at least one of them a vector, for compiled code."""

    def typed(*kinds: Any) -> Any:
        wanted = max((kind for kind in kinds if isinstance(kind, Vector)), key=lambda kind: kind.size)

        def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
            pairs = zip(values, kinds, strict=True)
            return emit(builder, *(_widened(context, builder, value, kind, wanted) for value, kind in pairs))

        return (result or wanted)(*kinds), generate

    shapes = (lambda _, a: typed(a), lambda _, a, b: typed(a, b), lambda _, a, b, c: typed(a, b, c))
    return intrinsic(shapes[arity - 1])


def _llvm(name: str) -> Callable[..., Any]:
    """Return an emitter of calls of LLVM's function `name`."""

    def emit(builder: Any, *values: Any) -> Any:
        kind = values[0].type
        function = ir.FunctionType(kind, [kind] * len(values))
        return builder.call(get_or_insert_function(builder.module, function, f"llvm.{name}.v{kind.count}f32"), values)

    return emit


def _where(builder: Any, x: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", x, ir.Constant(x.type, None)), a, b)


def _power_of_two(builder: Any, x: Any) -> Any:
    """Emit 2ˣ by writing x into the exponent bits of a float."""
    whole = ir.VectorType(ir.IntType(32), x.type.count)
    exponent = builder.add(builder.fptosi(x, whole), whole([127] * x.type.count))
    return builder.bitcast(builder.shl(exponent, whole([23] * x.type.count)), x.type)


def _over_rows(builder: Any, a: Any, b: Any) -> Any:
    total = ir.Constant(ROW.llvm, None)
    for start in range(0, ROWS * LANES, LANES):
        places = [*range(start, start + LANES)]
        total = _llvm("fma")(builder, _pick(builder, a, places), _pick(builder, b, places), total)
    return total


def _operator(instruction: str) -> Callable[..., Any]:
    """Return the overload of a Python operator for vectors."""
    emitted = _operation(lambda builder, a, b: getattr(builder, instruction)(a, b), 2)

    def of_vectors(a: Any, b: Any) -> Any:
        def apply(a: Any, b: Any) -> Any:
            return emitted(a, b)

        return apply if isinstance(a, Vector) or isinstance(b, Vector) else None

    return of_vectors


def _address(context: Any, builder: Any, array: Any, kind: Any, place: Any, vector: Vector) -> Any:
    """Emit the address of row, or block, number `place` of a flat array."""
    start = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(start, [builder.mul(place, place.type(vector.size))]), vector.llvm.as_pointer())


def _load(vector: Vector) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load(_address(context, builder, values[0], signature.args[0], values[1], vector), align=4)

    return intrinsic(lambda _, array, place: (vector(array, place), generate))


def _store(_: Any, array: Any, place: Any, vector: Any) -> Any:
    def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
        builder.store(values[2], _address(context, builder, values[0], array, values[1], vector), align=4)
        return context.get_dummy_value()

    return types.void(array, place, vector), generate


row = _load(ROW)  # row(array, i): row i of a flat float32 array
block = _load(BLOCK)  # block(array, i): block i of a flat float32 array
store: Any = intrinsic(_store)  # store(array, i, vector): write row or block i
overload(operator.add)(_operator("fadd"))
overload(operator.sub)(_operator("fsub"))
overload(operator.mul)(_operator("fmul"))
overload(operator.truediv)(_operator("fdiv"))
fma = _operation(_llvm("fma"), 3)  # a · b + c, rounded once
sqrt = _operation(_llvm("sqrt"), 1)
rint = _operation(_llvm("rint"), 1)
fabs = _operation(_llvm("fabs"), 1)
larger = _operation(_llvm("maxnum"), 2)
where = _operation(_where, 3)  # a where x > 0, else b
power_of_two = _operation(_power_of_two, 1)  # of a whole number from −126 to 127
over_rows = _operation(_over_rows, 2, ROW)  # Σ a · b over the rows of two blocks
