"""What is shipped: retraining figures, the model bundle, its formats and their proof.

Importing this package imports no torch: the process that checks an ONNX file needs none.
"""
