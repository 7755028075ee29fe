"""What finetui promises about speed, measured: `make bench`, or `python -m benchmarks NAME ...` for a part of it."""
