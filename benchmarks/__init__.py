"""What captioning costs, as a multiple of what it cannot do without: `python -m benchmarks`."""
