"""One ONNX file, frames → token ids: a bundle's three graphs, the step graph inside a loop that takes the best token.

`frames` uint8 `[B, T, S, S, 3]` and `frame_mask` bool `[B, T]`, true at real frames, which come first, at least one a
clip → `tokens` int64 `[B, L]`: the tokens of `decoding.decode` with a beam of 1, then `eos`, then `pad`. L is the
longest row, at most 30; a caption that is cut there has no `eos`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, compose, helper, numpy_helper, parser
from torch.nn.utils.rnn import pad_sequence

from video_captioning import bundle
from video_captioning.decoding import decode
from video_captioning.errors import BundleError, OutputError
from video_captioning.export.onnx import exact_backbone, export, trial_clips
from video_captioning.export.parity import GREEDY
from video_captioning.export.runtime import SPECIAL, TorchRuntime
from video_captioning.files import refuse_taken, whole_file
from video_captioning.frames import sample
from video_captioning.models import checkpoint

PACK = """
positions = NonZero (frame_mask)
real = Transpose <perm = [1, 0]> (positions)
encoder_frames = GatherND (frames, real)
"""
"""Real frames of all clips in one row, so that no padding is ever encoded."""

UNPACK = """
batch_and_time = Shape (frame_mask)
places_and_width = Shape <start = 1> (encoder_features)
features_shape = Concat <axis = 0> (batch_and_time, places_and_width)
padding = ConstantOfShape <value = float[1] {0.0}> (features_shape)
memory_features = ScatterND (padding, real, encoder_features)
memory_frame_mask = Identity (frame_mask)
"""

START = """
step_memory = Identity (memory_memory)
step_memory_mask = Identity (memory_memory_mask)
batch = Shape <start = 0, end = 1> (frame_mask)
first_token = Expand (bos, batch)
none_ended = Expand (no, batch)
"""
"""What the loop begins with. The memory does not change and stays outside, where the step sees it."""

CHOOSE = """
word_logits = Where (never_said, least, step_logits)
best = ArgMax <axis = 1, keepdims = 0> (word_logits)
next_token = Where (ended, pad, best)
ends = Equal (next_token, eos)
next_ended = Or (ended, ends)
live = Not (next_ended)
live_numbers = Cast <to = 6> (live)
any_live = ReduceMax <keepdims = 0> (live_numbers)
next_going = Cast <to = 9> (any_live)
said = Identity (next_token)
"""
"""The best token of each clip, `pad` for those that have ended; the loop goes on while one has not."""

FINISH = """
tokens = Transpose <perm = [1, 0]> (all_said)
"""


def convert(path: str | Path, out: str | Path, *, command: str = "", clips: Sequence[str | Path] = ()) -> int:
    """Write the graph of a checkpoint to the file `out`, `NAME.onnx`, and its bundle to the folder `NAME` beside it.

    Args:
        clips: files to compare with torch on, beside clips of random shapes.

    Returns:
        on how many clips, each alone and all together, the tokens were found to be those of torch.

    Raises:
        CheckpointError, ConfigError, MediaError: the checkpoint, its backbone or a clip cannot be loaded.
        BundleError: torch and ONNX disagree; nothing is written.
        OutputError: the file or the folder exists or cannot be written.
    """
    target = Path(out)
    folder = target.with_suffix("")
    if target.suffix != ".onnx":
        raise OutputError(target, "does not end in .onnx", "give a name such as model.onnx")
    refuse_taken(target)
    with ExitStack() as undo:
        with whole_file(target) as part:
            export(path, folder, name=folder.name, command=command, clips=clips)
            undo.callback(shutil.rmtree, folder)
            exported = bundle.read(folder)
            graph = compose_greedy({name: onnx.load(file) for name, file in exported.graphs.items()})
            part.write_bytes(graph.SerializeToString())
            model, description = checkpoint.load(path)
            backbone = exact_backbone(description)
            real = [sample(clip, exported.sampling, exported.resize).pixels for clip in clips]
            trials = [*trial_clips(backbone), *real]
            if not says_the_same(TorchRuntime(backbone, model), part, trials):
                raise BundleError(target, "torch and ONNX disagree", "not written; report this with the versions")
        undo.pop_all()
    return len(trials)


def compose_greedy(graphs: dict[str, ModelProto]) -> ModelProto:
    """The graph that this file begins with, made of a bundle's `encoder`, `memory` and `step`."""
    encoder, memory, step = (compose.add_prefix(graphs[name], f"{name}_").graph for name in bundle.GRAPHS)
    states = [value.name.removeprefix("step_") for value in step.input if value.name.startswith("step_state_")]
    loop = helper.make_node(
        "Loop",
        ["max_tokens", "yes", "first_token", "none_ended", *(f"memory_{state}" for state in states)],
        ["last_token", "all_ended", *(f"last_{state}" for state in states), "all_said"],
        body=loop_body(step, states),
    )
    size = [dimension.dim_value for dimension in encoder.input[0].type.tensor_type.shape.dim[1:]]
    vocabulary = step.output[0].type.tensor_type.shape.dim[1].dim_value
    graph = helper.make_graph(
        [*nodes(PACK), *encoder.node, *nodes(UNPACK), *memory.node, *nodes(START), loop, *nodes(FINISH)],
        "greedy",
        [
            helper.make_tensor_value_info("frames", TensorProto.UINT8, ["B", "T", *size]),
            helper.make_tensor_value_info("frame_mask", TensorProto.BOOL, ["B", "T"]),
        ],
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["B", "L"])],
        [*encoder.initializer, *memory.initializer, *constants(vocabulary)],
    )
    composed = helper.make_model(graph, opset_imports=graphs["step"].opset_import, ir_version=graphs["step"].ir_version)
    onnx.checker.check_model(composed, full_check=True)
    return composed


def loop_body(step: GraphProto, states: Sequence[str]) -> GraphProto:
    """One turn: the step graph, then the choice of a token. What it takes and gives is as ONNX's Loop wants it."""
    turn = helper.make_tensor_value_info("turn", TensorProto.INT64, [])
    going, going_on = (helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("going", "next_going"))
    ended, next_ended = (helper.make_tensor_value_info(n, TensorProto.BOOL, ["N"]) for n in ("ended", "next_ended"))
    token, said = (helper.make_tensor_value_info(name, TensorProto.INT64, ["N"]) for name in ("next_token", "said"))
    given = {value.name: value for value in [*step.input, *step.output]}
    before = [given[f"step_{state}"] for state in states]
    after = [given[f"step_next_{state}"] for state in states]
    return helper.make_graph(
        [*step.node, *nodes(CHOOSE)],
        "word",
        [turn, going, given["step_token"], ended, *before],
        [going_on, token, next_ended, *after, said],
        step.initializer,
    )


def nodes(text: str) -> list[NodeProto]:
    """Nodes written in ONNX's own text form, one a line."""
    return [parser.parse_node(line) for line in text.strip().splitlines()]


def constants(vocabulary: int) -> list[TensorProto]:
    """The initializers that the text above names."""
    never_said = np.zeros(vocabulary, bool)
    never_said[[SPECIAL.bos, SPECIAL.pad, SPECIAL.unk]] = True
    values = {
        "bos": np.int64(SPECIAL.bos),
        "eos": np.int64(SPECIAL.eos),
        "pad": np.int64(SPECIAL.pad),
        "no": np.bool_(False),
        "yes": np.bool_(True),
        "max_tokens": np.int64(GREEDY.max_tokens),
        "never_said": never_said,
        "least": np.finfo(np.float32).min,
    }
    return [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]


def says_the_same(reference: TorchRuntime, file: Path, clips: Sequence[np.ndarray]) -> bool:
    """Whether the graph gives torch's greedy tokens for clips uint8 `[T, S, S, 3]`, each alone and all in one batch."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def same(batch: Sequence[np.ndarray]) -> bool:
        frames = pad_sequence([torch.from_numpy(clip) for clip in batch], True)
        features, mask = reference.encode(batch)
        (tokens,) = session.run(None, {"frames": frames.numpy(), "frame_mask": mask})
        return bool(np.array_equal(tokens, expected_tokens(reference, features, mask)))

    return all(same([clip]) for clip in clips) and same(clips)


def expected_tokens(reference: TorchRuntime, features: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`tokens` as the graph should give them, by `decoding.decode`."""
    memory, state = reference.remember(features, mask)
    hypotheses = [best for best, *_ in decode(reference.step, state, memory, GREEDY, SPECIAL)]
    rows = [[*hypothesis.tokens, *[SPECIAL.eos] * hypothesis.finished] for hypothesis in hypotheses]
    return np.array(list(zip(*zip_longest(*rows, fillvalue=SPECIAL.pad), strict=True)))
