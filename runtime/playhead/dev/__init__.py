"""The broker of `playhead dev` and of the tests: a real Apache Kafka, found or brought and started.

Entry point: `playhead.dev.find.find_broker`.
"""
