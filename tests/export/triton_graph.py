"""Stands in for Triton's onnxruntime backend, which the wheel lacks: runs `model.onnx` by the same `config.pbtxt`."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        file = Path(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        self.joined = json.loads(args["model_config"])["max_batch_size"] > 0
        self.outputs = [value.name for value in self.session.get_outputs()]

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        if not self.joined:
            return [self.respond(self.run([request])) for request in requests]
        sizes = [len(request.inputs()[0].as_numpy()) for request in requests]
        values = self.run(requests)
        rows = np.cumsum([0, *sizes])
        return [self.respond([value[a:b] for value in values]) for a, b in pairwise(rows)]

    def run(self, requests: Sequence[Any]) -> list[np.ndarray]:
        given = [{tensor.name(): tensor.as_numpy() for tensor in request.inputs()} for request in requests]
        return self.session.run(None, {name: np.concatenate([one[name] for one in given]) for name in given[0]})

    def respond(self, values: Sequence[np.ndarray]) -> Any:
        tensors = [
            triton.Tensor(name, np.ascontiguousarray(value)) for name, value in zip(self.outputs, values, strict=True)
        ]
        return triton.InferenceResponse(tensors)
