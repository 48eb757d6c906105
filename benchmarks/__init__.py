"""What tasklocks costs, beside the bare commands of each store and beside other libraries: `python -m benchmarks`."""
