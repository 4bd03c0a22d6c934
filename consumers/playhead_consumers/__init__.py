"""The jobs: one module per consumer group. `playhead worker consumers/` runs all of them, or name the files to run."""
