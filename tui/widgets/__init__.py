"""The dashboard's widgets: each shows what it is given, says what was done to it, and knows nothing else."""
