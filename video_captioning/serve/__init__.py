"""The HTTP service: a clip comes in, its caption goes out; work is bounded, files are removed, decoding is kept apart.

upload → spool → decoders (processes) → batcher (one thread, the models) → answer
"""
