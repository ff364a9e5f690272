"""Taking the entries above their floors out of frames, sixteen at a time where processors have AVX-512.

There LLVM's `masked.compressstore` is one instruction; elsewhere it would be branches that nobody can predict, and
every entry is written and overwritten if it is not kept.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_LANES = 16
_COMPRESSES = bool(binding.get_host_cpu_features().get("avx512f", False))


@numba.njit(cache=True, nogil=True)
def sides_above(frames, floors, n_kept):  # type: ignore[no-untyped-def]
    """Return the code of frames `[t, d]` whose units have two sides, `indptr [t + 1]`, features, values.

    Side i is the positive part of unit i, side d + i its negative part; `n_kept` are above `floors [2d]` in all.
    """
    n_frames, d = frames.shape
    indptr = np.zeros(n_frames + 1, dtype=np.int64)
    features, values = np.empty(n_kept + 1, dtype=np.uint32), np.empty(n_kept + 1, dtype=np.float32)
    n, whole = np.int64(0), d // _LANES * _LANES if _COMPRESSES else 0
    for t in range(n_frames):
        row = frames[t]
        for side in range(2):
            sign, first = np.float32(1 - 2 * side), side * d
            for i in range(0, whole, _LANES):
                n = _compress(row, floors, np.int64(i), np.int64(first + i), sign, features, values, n)
            above = floors[first : first + d]
            for i in range(whole, d):
                value = sign * row[i]
                features[n], values[n] = np.uint32(first + i), value
                n += value > above[i]
        indptr[t + 1] = n
    return indptr, features[:n], values[:n]


@intrinsic
def _compress(  # type: ignore[no-untyped-def]
    typing_context, row, floors, at, feature, sign, features, values, n
):
    """Append those of `sign * row[at : at + 16]` above `floors[feature : feature + 16]` to `values`, and which features
    they are to `features`, from position `n` on; return the position after them."""
    signature = types.int64(row, floors, at, feature, sign, features, values, n)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        row, floors, at, feature, sign, features, values, n = arguments
        of_row, of_floors, _, _, _, of_features, of_values, _ = signature.args
        floats, whole = ir.VectorType(ir.FloatType(), _LANES), ir.VectorType(ir.IntType(32), _LANES)
        bits = ir.VectorType(ir.IntType(1), _LANES)

        def place(of: Any, array: Any, index: Any, vector: Any) -> Any:
            pointer = builder.gep(context.make_array(of)(context, builder, array).data, [index])
            return builder.bitcast(pointer, vector.as_pointer())

        def load(of: Any, array: Any, index: Any) -> Any:
            found = builder.load(place(of, array, index, floats))
            found.align = 4
            return found

        def all_lanes(value: Any, vector: Any) -> Any:
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(one, one, ir.Constant(whole, [0] * _LANES))

        def append(vector: Any, of: Any, array: Any) -> None:
            pointer = builder.bitcast(place(of, array, n, floats), vector.type.element.as_pointer())
            kind = ir.FunctionType(ir.VoidType(), [vector.type, pointer.type, bits])
            name = f"llvm.masked.compressstore.v{_LANES}{'f' if vector.type is floats else 'i'}32"
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [vector, pointer, above])

        value = builder.fmul(load(of_row, row, at), all_lanes(sign, floats))
        above = builder.fcmp_ordered(">", value, load(of_floors, floors, feature))
        numbers = ir.Constant(whole, list(range(_LANES)))
        append(value, of_values, values)
        append(builder.add(all_lanes(builder.trunc(feature, ir.IntType(32)), whole), numbers), of_features, features)
        mask = ir.IntType(_LANES)
        count = cgutils.get_or_insert_function(builder.module, ir.FunctionType(mask, [mask]), f"llvm.ctpop.i{_LANES}")
        found = builder.zext(builder.call(count, [builder.bitcast(above, mask)]), ir.IntType(64))
        return builder.add(n, found)

    return signature, generate
