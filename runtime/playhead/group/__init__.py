"""One member of one group: tasks, epochs, takeover, commits. What the tasks are for is their `Work`: jobs or timers."""
