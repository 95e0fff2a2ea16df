"""ONNX with weights in int8: a quarter of the size, and numbers that are near PyTorch's instead of equal.

Dynamic quantisation by onnxruntime: the weights of matrix products and the tables of
embeddings are rounded to 8 bits once, the inputs of each product when it runs. Convolutions
stay in fp32, because rounding their inputs at run time costs more than it saves: a small ConvNeXt ran
at half the speed of eager PyTorch with them and at three times without.
"""

from __future__ import annotations

from pathlib import Path

from hpo.errors import ExportFailed
from hpo.export.formats import Subject
from hpo.export.formats._onnx import load, usage, write_graph

__all__ = ["is_eager", "is_program", "largest_error", "load", "packages", "unverified", "usage", "write"]

packages = ("onnxruntime",)
is_eager = False
is_program = False
largest_error = 0.1  # of the outputs' own spread; 0.02 to 0.03 is usual
unverified = None
OPERATORS = ("MatMul", "Gemm", "Gather")


def write(subject: Subject, folder: Path) -> None:
    """Export as ``onnx`` does and round it, each column of weights with a scale of its own.

    Raises:
        ExportFailed: the model has no weights that could be rounded, or what ``write_graph`` says.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    path = write_graph(subject, folder)
    model = onnx.load(str(path))
    del model.graph.value_info[:]  # stale after rounding: onnxruntime refuses the file over them
    add_pre_process_metadata(model)  # the exporter has done what onnxruntime would ask for on stderr
    # 7 bits a weight: with 8, processors without VNNI instructions overflow and give other numbers.
    quantize_dynamic(
        model,
        str(path),
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
        op_types_to_quantize=list(OPERATORS),
    )
    if not any(weight.data_type == onnx.TensorProto.INT8 for weight in onnx.load(str(path)).graph.initializer):
        raise ExportFailed(
            "What is rounded are the weights of matrix products and embeddings; this model has none. Ship onnx instead."
        )
