"""A run, written into the tools that people have already: TensorBoard, CSV files, W&B, trackio.

Each tool is written by a process of its own (`writer`), to which the engine passes the run's events (`run_logs`): its
library's imports, prints, threads, network and crashes have nothing to do with the training.
"""
