"""The command line of the verbs that have a configuration, before Hydra reads it."""
